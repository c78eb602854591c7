"""Step rules and schedules of the engine."""

from typing import get_args

import pytest
import torch

from qcompile.methods import axes
from qcompile.methods.axes import Optimizer
from qcompile.quant.optimizers.rate import set_rate, share_left
from qcompile.quant.optimizers.registry import OPTIMIZERS, optimizer

NAMES = [name for name, _ in OPTIMIZERS]
CURVE = torch.tensor([1.0, 3.0, 10.0])


def path(setting, steps=60, lr=0.02, size=1.0):
    """Positions while ``size * sum(CURVE x^2) / 2`` is minimised from (1, 1, 1)."""
    x = torch.ones(3, requires_grad=True)
    rule = optimizer([x], setting, lr)
    found = []
    for _ in range(steps):
        rule.zero_grad()
        (size * (CURVE * x * x).sum() / 2).backward()
        rule.step()
        found.append(x.detach().clone())
    return torch.stack(found)


def test_every_rule_of_the_language_is_there():
    assert set(NAMES) == set(get_args(axes.OptimizerName))


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_goes_downhill(name):
    end = path(Optimizer(name))[-1]
    assert float((CURVE * end * end).sum()) < 0.9 * float(CURVE.sum())


def test_no_two_rules_are_the_same():
    paths = [path(Optimizer(name), steps=60, lr=0.1) for name in NAMES]
    for place, one in enumerate(paths):
        for other in paths[:place]:
            assert not torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_size_of_the_loss_does_not_matter(name):
    """``adagrad`` and its kin divide by the gradient; so does our ``sgd``, by the first one."""
    assert torch.allclose(path(Optimizer(name)), path(Optimizer(name), size=1e-3), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("sgd", {"momentum": 0.5}),
        ("sgd", {"weight_decay": 0.5}),
        ("sign_sgd", {"momentum": 0.9}),
        ("adam", {"beta1": 0.5}),
        ("adam", {"beta2": 0.5}),
        ("adamw", {"weight_decay": 0.5}),
        ("adamw", {"beta1": 0.5}),
        ("nadam", {"beta1": 0.5}),
        ("adamax", {"beta2": 0.5}),
        ("rmsprop", {"momentum": 0.5}),
        ("lion", {"beta1": 0.1}),
        ("lion", {"beta2": 0.1}),
        ("lion", {"weight_decay": 0.5}),
    ],
)
def test_every_argument_changes_the_path(name, argument):
    assert not torch.allclose(path(Optimizer(name)), path(Optimizer(name, **argument)), atol=1e-5)


def test_sgd_is_torch_sgd_in_units_of_the_first_gradient():
    unit = float(CURVE.square().mean().sqrt())
    x = torch.ones(3, requires_grad=True)
    rule = torch.optim.SGD([x], lr=0.02 / unit, momentum=0.5)
    for _ in range(5):
        rule.zero_grad()
        ((CURVE * x * x).sum() / 2).backward()
        rule.step()
    found = path(Optimizer("sgd", momentum=0.5), steps=5)[-1]
    assert torch.allclose(found, x.detach(), atol=1e-6)


def test_sign_sgd_moves_by_its_rate():
    steps = path(Optimizer("sign_sgd"), steps=3)
    assert torch.allclose(steps[0], torch.full((3,), 0.98))
    assert torch.allclose(steps[2], torch.full((3,), 0.94))


def test_lion_by_hand():
    """2302.06675, algorithm 2, two steps of one number with gradients 1 and -0.5."""
    x = torch.tensor([1.0], requires_grad=True)
    rule = optimizer([x], Optimizer("lion", beta1=0.9, beta2=0.5, weight_decay=0.1), 0.1)
    x.grad = torch.tensor([1.0])
    rule.step()
    assert x.item() == pytest.approx(1 - 0.1 * (1 + 0.1 * 1))
    before = x.item()
    x.grad = torch.tensor([-0.5])  # c = 0.9 * 0.5 - 0.1 * 0.5 > 0
    rule.step()
    assert x.item() == pytest.approx(before - 0.1 * (1 + 0.1 * before))


def test_a_tensor_without_a_first_gradient_waits():
    x = torch.ones(2, requires_grad=True)
    rule = optimizer([x], Optimizer("sgd"), 0.1)
    x.grad = torch.zeros(2)
    rule.step()
    x.grad = torch.tensor([4.0, 4.0])
    rule.step()
    assert torch.allclose(x.detach(), torch.full((2,), 0.9))


def test_schedules():
    assert [share_left("constant", s, 4) for s in range(4)] == [1, 1, 1, 1]
    assert [share_left("linear", s, 4) for s in range(4)] == [1, 0.75, 0.5, 0.25]
    cosine = [share_left("cosine", s, 4) for s in range(4)]
    assert cosine == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_sign_descent_with_a_linear_rate_of_one_over_steps_travels_half():
    """SignRound's choice, 2309.05516: ``|V| <= 1/2`` needs no clip."""
    x = torch.zeros(1, requires_grad=True)
    rule = optimizer([x], Optimizer("sign_sgd"), 1 / 200)
    for step in range(200):
        set_rate(rule, share_left("linear", step, 200))
        x.grad = torch.tensor([-1.0])
        rule.step()
    assert x.item() == pytest.approx(0.5025, abs=1e-5)

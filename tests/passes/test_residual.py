"""Which sums a layer may correct, and that fitting them pays for the block."""

from dataclasses import replace

import pytest
import torch
from torch import fx, nn

from qcompile.capture.unit import Unit
from qcompile.methods.presets import preset
from qcompile.passes.residual import residual
from qcompile.passes.sweep import sweep
from qcompile.policy.core import RuleRef, SitePlan, TensorPlan
from qcompile.policy.scheme import IntFormat, PerChannel, QuantSlot
from qcompile.quant.geometry import Convolution, Dense

CONV = Convolution((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
W3 = QuantSlot(format=IntFormat(bits=3, signed=False), symmetric=False, granularity=PerChannel())


class Body(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form
        self.layer = nn.Linear(6, 6)
        self.other = nn.Linear(6, 6)
        self.rest = nn.Dropout()
        self.gamma = nn.Parameter(torch.arange(1.0, 7.0))
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return FORMS[self.form](self, x, self.layer(x))


def in_place(_, x, y):
    y += x
    return y


FORMS = {
    "plain": lambda _, x, y: x + y,
    "method": lambda _, x, y: y.add(x),
    "in place": in_place,
    "scaled": lambda body, x, y: x + body.rest(y) * body.gamma,
    "relu between": lambda _, x, y: x + torch.relu(y),
    "read twice": lambda _, x, y: x + y + y.mean(),
    "weighted": lambda _, x, y: torch.add(x, y, alpha=2),
    "scalar gain": lambda body, x, y: x + y * body.one,
    "itself": lambda _, x, y: y + y,
    "product": lambda _, x, y: x * y,
    "two branches": lambda body, x, y: y + body.other(x),
    "nothing": lambda _, x, y: y,
}


def found(form, ready=lambda name: True, layer="layer"):
    module = fx.symbolic_trace(Body(form).eval())
    node = next(node for node in module.graph.nodes if node.name == layer)
    return residual(module, node, Dense(), ready)


@pytest.mark.parametrize("form", ["plain", "method", "in place"])
def test_a_sum_is_found_however_it_is_written(form):
    assert found(form).skip == "x"
    assert found(form).gain is None


def test_a_gain_for_each_output_may_stand_between():
    assert torch.equal(found("scaled").gain, torch.arange(1.0, 7.0))


@pytest.mark.parametrize(
    "form",
    ["relu between", "read twice", "weighted", "scalar gain", "itself", "product", "nothing"],
)
def test_anything_else_between_means_no_residual(form):
    assert found(form) is None


def test_of_two_branches_the_last_makes_up_for_the_first():
    assert found("two branches", lambda name: name != "other") is None
    assert found("two branches", lambda name: name == "layer", layer="other").skip == "layer"


def test_the_correction_is_the_error_of_the_skip_in_the_units_of_the_output():
    plain, quantized = torch.randn(4, 6), torch.randn(4, 6)
    correction = found("scaled").correction(plain, quantized, Dense())
    assert torch.allclose(correction * torch.arange(1.0, 7.0), plain - quantized, atol=1e-6)
    images = torch.randn(2, 6, 3, 3), torch.randn(2, 6, 3, 3)
    spread = found("scaled").correction(*images, CONV)
    assert torch.allclose(spread[:, 3] * 4, (images[0] - images[1])[:, 3], atol=1e-6)


def test_an_output_with_a_faint_gain_corrects_nothing():
    module = fx.symbolic_trace(Body("scaled").eval())
    with torch.no_grad():
        module.gamma[2] = 1e-6
    [node] = [node for node in module.graph.nodes if node.name == "layer"]
    seen = residual(module, node, Dense(), lambda name: True)
    correction = seen.correction(torch.ones(1, 6), torch.zeros(1, 6), Dense())
    assert correction[0].tolist() == pytest.approx([1, 1 / 2, 0, 1 / 4, 1 / 5, 1 / 6])


class Chain(nn.Module):
    """Residual blocks: each hands its error on."""

    def __init__(self, depth):
        super().__init__()
        self.up = nn.ModuleList([nn.Linear(16, 32) for _ in range(depth)])
        self.down = nn.ModuleList([nn.Linear(32, 16) for _ in range(depth)])

    def forward(self, x):
        for up, down in zip(self.up, self.down, strict=True):
            x = x + down(torch.relu(up(x)))
        return x


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_residual_target_lowers_the_error_behind_the_blocks(seed):
    generator = torch.Generator().manual_seed(seed)
    model = Chain(3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 5)
    module = fx.symbolic_trace(model)
    rule = RuleRef(file="x", line=1, column=1, text="use")

    def site(node):
        path = str(node.target)
        weight = f"{path}.weight"
        plan = TensorPlan(
            slot="weight",
            spec=W3,
            parameter=weight,
            storage=weight,
            shape=tuple(model.get_parameter(weight).shape),
            bytes_before=0,
            bytes_after=0,
            decided_by=rule,
        )
        return SitePlan(
            key=path,
            path=path,
            call=0,
            node=node.name,
            kind="linear",
            unit="all",
            scheme="w3",
            decided_by=rule,
            tensors=(plan,),
            refits=(f"{path}.bias",),
        )

    sites = {node.name: site(node) for node in module.graph.nodes if node.op == "call_module"}
    names = [node.name for node in module.graph.nodes if node.op.startswith("call_")]
    units = [Unit("all", tuple(names), ("x",), (names[-1],), True)]
    batches = [{"x": torch.randn(64, 16, generator=generator)} for _ in range(16)]
    hybrid = preset("hybrid")
    errors = {}
    for target in ("symmetric", "asymmetric", "residual"):
        [outcome] = sweep(
            module,
            units,
            sites,
            batches,
            tuning=replace(hybrid, target=target),
            seed=0,
            device=torch.device("cpu"),
        )
        errors[target] = outcome.output_error
        assert {f"up.{n}.bias" for n in range(3)} <= outcome.tensors.keys()
    assert errors["residual"] < errors["asymmetric"] < errors["symmetric"]

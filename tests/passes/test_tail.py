"""The float rest of a network, and derivatives through it."""

import pytest
import torch
from torch import fx, nn

from qcompile.passes.sensitivity import curvatures, gradients
from qcompile.passes.sweep_streams import Streams
from qcompile.passes.tail import tail_behind
from tests.passes.deep import CPU, deep


class Record(fx.Interpreter):
    def __init__(self, module):
        super().__init__(module)
        self.values = {}

    def run_node(self, node):
        value = super().run_node(node)
        self.values[node.name] = value.clone() if isinstance(value, torch.Tensor) else value
        return value


def streams_at(module, data, live, shift=0.0):
    """Streams that hold ``live``; the quantized one is the float one, moved by ``shift``."""
    streams = Streams()
    runs = []
    for batch in data:
        run = Record(module)
        with torch.no_grad():
            run.run(batch["x"].clone())
        runs.append(run.values)
    for name in live:
        plain = [values[name] for values in runs]
        streams.put(name, plain, [value + shift for value in plain] if shift else None)
    return streams, runs


@pytest.mark.parametrize(
    ("start", "live"),
    [
        ("first", ["x", "first"]),
        ("second", ["x", "second"]),
        ("add", ["x", "add"]),
        ("third", ["add", "third"]),
        ("add_1", ["add_1"]),
        ("head", ["head"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_from_any_node_on_the_tail_gives_the_networks_output(start, live):
    module, data = deep(batches=3)
    streams, runs = streams_at(module, data, live)
    tail = tail_behind(module, start, streams, CPU)
    for number, values in enumerate(runs):
        before = values[start].clone()
        assert torch.equal(tail(values[start], number), values["head"])
        assert torch.equal(values[start], before)  # though an activation works in place


def test_side_values_are_of_the_quantized_prefix_or_of_the_float_model():
    module, data = deep(batches=1)
    streams, [values] = streams_at(module, data, ["x", "second"], shift=0.5)
    tail = tail_behind(module, "second", streams, CPU)
    plain = tail(values["second"], 0, plain=True)
    assert torch.equal(plain, values["head"])
    moved = tail(values["second"], 0)
    x1 = values["x"] + 0.5 + values["second"]
    with torch.no_grad():
        x2 = x1 + module.fourth(torch.relu(module.third(x1)))
        assert torch.allclose(moved, module.head(x2), rtol=1e-5, atol=1e-5)


def test_nothing_is_kept_for_the_weights_of_the_tail():
    module, data = deep(batches=1)
    streams, [values] = streams_at(module, data, ["add"])
    tail = tail_behind(module, "add", streams, CPU)
    value = values["add"].requires_grad_()
    tail(value, 0).square().sum().backward()
    assert float(value.grad.abs().min()) > 0
    assert all(parameter.grad is None for parameter in module.parameters())


class TwoOutputs(nn.Module):
    def __init__(self, named):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.named = named

    def forward(self, x):
        a, b = self.a(x), self.b(x)
        return {"hidden": b, "logits": a} if self.named else (a, b)


@pytest.mark.parametrize("named", [True, False])
def test_the_output_that_counts_is_the_one_that_metrics_look_at(named):
    module = fx.symbolic_trace(TwoOutputs(named))
    streams, _ = streams_at(module, [{"x": torch.randn(2, 3)}], ["x", "a", "b"])
    assert tail_behind(module, "a", streams, CPU) is not None
    assert tail_behind(module, "b", streams, CPU) is None


class Head(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.body, self.head = nn.Linear(width, width), nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.fixture
def linear_tail():
    """Behind ``body``: logits ``W y + b``, in float64."""
    torch.manual_seed(0)
    module = fx.symbolic_trace(Head(6, 4).double())
    data = [{"x": torch.randn(n, 6, dtype=torch.float64)} for n in (3, 2)]
    streams, runs = streams_at(module, data, ["body"])
    tail = tail_behind(module, "body", streams, CPU)
    return tail, module.head, [values["body"] for values in runs]


def test_gradient_is_the_difference_of_the_decisions(linear_tail):
    """d KL / d y = W^T (softmax(z) - softmax(z_float)), for each sample."""
    tail, head, plain = linear_tail
    at = [value + 0.3 for value in plain]
    found = gradients(tail, at, plain)
    for value, wanted, gradient in zip(at, plain, found, strict=True):
        with torch.no_grad():
            moved = torch.softmax(head(value), -1) - torch.softmax(head(wanted), -1)
            expected = moved @ head.weight
        assert torch.allclose(gradient.double(), expected, rtol=1e-4, atol=1e-7)


def test_gradient_at_the_float_point_is_zero(linear_tail):
    tail, _, plain = linear_tail
    assert all(float(one.abs().max()) < 1e-6 for one in gradients(tail, plain, plain))


def test_curvature_is_the_hessian_summed_over_its_rows(linear_tail):
    """H = W^T (diag(p) - p p^T) W / T^2 with p = softmax(z / T) at the float point, T = 20."""
    tail, head, plain = linear_tail
    rows = []
    with torch.no_grad():
        for sample in torch.cat(plain):
            p = torch.softmax(head(sample) / 20, -1)
            hessian = head.weight.T @ (torch.diag(p) - torch.outer(p, p)) @ head.weight / 400
            rows.append(hessian.sum(1).abs())
    expected = torch.stack(rows).mean(0)
    for found in curvatures(tail, plain):
        assert found.shape == (1, 6)
        assert torch.allclose(found[0].double(), expected, rtol=1e-2)

"""What a row counts, against gradients of the whole network at once."""

import pytest
import torch
from torch import fx, nn

from qcompile.capture.node_meta import NodeFacts, set_facts
from qcompile.capture.trace import trace
from qcompile.capture.unit import Unit
from qcompile.passes.row_importance import EVEN, SAMPLES, row_importance
from tests.passes.deep import CPU, LAYERS, UNITS, deep


def generator():
    return torch.Generator().manual_seed(3)


def found(module, units, names, batches):
    return row_importance(module, units, names, batches, CPU, generator())


def mean_one(parts):
    mean = torch.cat(parts, 1).mean()
    return [EVEN + (1 - EVEN) * part / mean for part in parts]


def by_hand(module, names, batches):
    """Hooks on the module as it is, a few samples at a time with the same directions."""
    seen = {}

    def note(name):
        def hook(_, __, made):
            made = made if made.requires_grad else made.detach().requires_grad_()
            seen[name] = made
            return made.clone()

        return hook

    hooks = [module.get_submodule(name).register_forward_hook(note(name)) for name in names]
    draws, rows = generator(), {name: [] for name in names}
    for batch in batches:
        parts = {name: [] for name in names}
        for few in batch["x"].split(SAMPLES):
            outcome = module(few)
            direction = torch.randn(outcome.shape, generator=draws)
            gradients = torch.autograd.grad((outcome * direction).sum(), [seen[n] for n in names])
            for name, gradient in zip(names, gradients, strict=True):
                parts[name].append(gradient.square().mean(-1).flatten())
        for name in names:
            rows[name].append(torch.cat(parts[name])[None])
    for hook in hooks:
        hook.remove()
    return {name: mean_one(parts) for name, parts in rows.items()}


def test_units_one_by_one_give_the_gradients_of_the_whole():
    module, batches = deep(batches=3)
    names = (*LAYERS, "head")
    ours, wanted = found(module, UNITS, names, batches), by_hand(module, names, batches)
    for name in names:
        for a, b in zip(ours[name], wanted[name], strict=True):
            assert a.shape == (1, 16)
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


class FirstToken(nn.Module):
    """Only the first of four tokens is read; the second layer is for nothing."""

    def __init__(self):
        super().__init__()
        self.each, self.unused = nn.Linear(6, 5), nn.Linear(6, 5)

    def forward(self, x):
        return self.each(x)[:, 0], self.unused(x)


def test_rows_that_nobody_reads_keep_the_even_share():
    module = fx.symbolic_trace(FirstToken().eval())
    names = [node.name for node in module.graph.nodes if node.op.startswith("call_")]
    units = (Unit("u", tuple(names), ("x",), ("getitem", "unused"), False),)
    batches = [{"x": torch.randn(6, 4, 6, generator=generator())}]
    weights = found(module, units, ["each", "unused"], batches)["each"][0].view(6, 4)
    assert torch.equal(weights[:, 1:], torch.full((6, 3), EVEN))
    assert weights.mean() == pytest.approx(1, abs=1e-5)
    assert bool((weights[:, 0] > EVEN).all())


def test_what_the_output_does_not_depend_on_counts_alike():
    module = fx.symbolic_trace(FirstToken().eval())
    units = (Unit("u", ("each", "getitem", "unused"), ("x",), ("getitem", "unused"), False),)
    batches = [{"x": torch.randn(2, 4, 6, generator=generator())}]
    assert "unused" not in found(module, units, ["unused"], batches)


class NoDerivative(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x).argsort(-1).float()


def test_without_a_derivative_rows_count_alike():
    module = fx.symbolic_trace(NoDerivative().eval())
    names = tuple(node.name for node in module.graph.nodes if node.op.startswith("call_"))
    units = (Unit("u", names, ("x",), names[-1:], False),)
    assert found(module, units, ["layer"], [{"x": torch.randn(3, 4)}]) == {}


def test_convolutions_have_a_row_for_each_position():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Linear(3, 2)

        def forward(self, x):
            return self.head(self.conv(x).mean((2, 3)))

    module = fx.symbolic_trace(Net().eval())
    names = tuple(node.name for node in module.graph.nodes if node.op.startswith("call_"))
    units = (Unit("u", names, ("x",), names[-1:], False),)
    weights = found(module, units, ["conv", "head"], [{"x": torch.randn(5, 2, 6, 6)}])
    assert weights["conv"][0].shape == (1, 5 * 9)
    by_image = weights["conv"][0].view(5, 9)
    assert torch.allclose(by_image, by_image[:, :1].expand(5, 9), atol=1e-5)  # a mean: all alike


def test_draws_are_the_seed_and_nothing_else():
    module, batches = deep(batches=2)
    torch.manual_seed(1)
    first = found(module, UNITS, LAYERS, batches)
    torch.manual_seed(2)
    again = found(module, UNITS, LAYERS, batches)
    assert all(torch.equal(a, b) for n in LAYERS for a, b in zip(first[n], again[n], strict=True))


def test_the_model_and_the_batches_are_only_read():
    module, batches = deep(batches=2)
    before = [value.clone() for value in (*module.state_dict().values(), batches[0]["x"])]
    found(module, UNITS, LAYERS, batches)
    after = [*module.state_dict().values(), batches[0]["x"]]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_model_of_one_batch_size_gets_whole_batches():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(x.view(6, 4)).tanh()

    module = fx.symbolic_trace(Fixed().eval())
    names = tuple(node.name for node in module.graph.nodes if node.op.startswith("call_"))
    units = (Unit("u", names, ("x",), names[-1:], False),)
    (placeholder,) = module.graph.find_nodes(op="placeholder")
    set_facts(placeholder, NodeFacts(shape=(6, 2, 2)))
    (weights,) = found(module, units, ["layer"], [{"x": torch.randn(6, 2, 2)}])["layer"]
    assert weights.shape == (1, 6)


def test_other_failures_are_not_taken_for_a_missing_derivative():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(x).view(7, 11)

    module = fx.symbolic_trace(Broken().eval())
    names = tuple(node.name for node in module.graph.nodes if node.op.startswith("call_"))
    units = (Unit("u", names, ("x",), names[-1:], False),)
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        found(module, units, ["layer"], [{"x": torch.randn(6, 4)}])


def test_an_operation_without_a_derivative_is_none_for_its_layers():
    class Undifferentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            raise RuntimeError("derivative for this is not implemented")

    def doubled(x):
        return Undifferentiable.apply(x)

    graph = fx.Graph()
    x = graph.placeholder("x")
    layer = graph.call_module("layer", (x,))
    graph.output(graph.call_function(doubled, (layer,)))
    module = fx.GraphModule({"layer": nn.Linear(4, 4)}, graph)
    units = (Unit("u", ("layer", "doubled"), ("x",), ("doubled",), False),)
    assert found(module, units, ["layer"], [{"x": torch.randn(3, 4)}]) == {}


def test_gradients_without_end_leave_rows_alike():
    class Steep(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4, bias=False)

        def forward(self, x):
            return self.layer(x).abs().sqrt()  # no slope at 0

    module = fx.symbolic_trace(Steep().eval())
    names = tuple(node.name for node in module.graph.nodes if node.op.startswith("call_"))
    units = (Unit("u", names, ("x",), names[-1:], False),)
    assert found(module, units, ["layer"], [{"x": torch.zeros(3, 4)}]) == {}


class PositionsFirst(nn.Module):
    """A layer as those of torch's attention, whose outputs count as each sample says."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x, factor):
        return self.layer(x.transpose(0, 1)).transpose(0, 1) * factor[:, None, None]


def test_rows_of_positions_stay_in_their_order():
    samples, positions = 2 * SAMPLES + 1, 200
    x, factor = torch.randn(samples, positions, 6), torch.arange(1.0, samples + 1)
    module = trace(PositionsFirst().eval(), (x, factor), {}).module
    names = tuple(n.name for n in module.graph.nodes if n.op.startswith("call"))
    units = [Unit("all", names, ("x", "factor"), names[-1:], is_block=False)]
    (rows,) = found(module, units, ["layer"], [{"x": x, "factor": factor}])["layer"]
    by_sample = rows.view(positions, samples).mean(0) - EVEN
    wanted = (1 - EVEN) * factor.square() / factor.square().mean()
    assert torch.allclose(by_sample, wanted, rtol=0.2)

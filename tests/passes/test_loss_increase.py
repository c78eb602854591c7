"""What quantizing one site costs: reference values, whole models, and the path integral."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.func import functional_call

import qcompile
from qcompile.diagnostics.failure import CompileError
from qcompile.methods.presets import preset
from qcompile.passes.loss_increase import OUT_OF_RANGE, Candidates, increase, loss_increases
from qcompile.quant.losses.prediction import divergence
from qcompile.quant.quantized_weight import quantize_weight
from qcompile.quant.range_search import weight_range
from tests.policy.compiled import recipe_of

CPU = torch.device("cpu")
RTN = preset("rtn")
REFERENCE = {2: 0.083822470863, 3: 0.003763241303, 4: 0.000124520241}
"""Of the first layer of ``small`` in this many bits, one scale a row to its largest weight."""
MIDPOINTS = {1: 0.074169, 2: 0.081705, 4: 0.083309, 8: 0.083695, 16: 0.083791, 64: 0.083820}
"""The path integral at two bits with so many nodes."""


def grid(rows, columns, function, offset, by_row, by_column):
    i, j = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return function((offset + by_row * i + by_column * j).double())


def small():
    """Two layers with ``tanh`` between them, in float64."""
    model = nn.Sequential(
        nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 3, bias=False)
    ).double()
    with torch.no_grad():
        model[0].weight.copy_(grid(5, 4, torch.sin, 1, 2, 5))
        model[2].weight.copy_(grid(3, 5, torch.cos, 3, 1, 2))
    return model.eval(), grid(12, 4, torch.sin, 2, 7, 3)


def bound_with(model, x, scheme, rule):
    recipe = recipe_of(f"scheme s {{ {scheme} }}\npolicy main {{ {rule} }}\n")
    return qcompile.bind(recipe, model, (x[:2],))


def increases(model, x, schemes, path, *, tuning=RTN, batches=None):
    """Of ``path`` alone with each of ``schemes``."""
    made = [bound_with(model, x, scheme, f'use s for "{path}"') for scheme in schemes]
    plans = [next(plan for plan in one.planned if plan.path == path) for one in made]
    graph, units = made[0].graph, made[0].units
    name = next(node.name for node in graph.graph.nodes if node.op == "placeholder")
    parts = [{name: part} for part in (batches or [x])]
    found = loss_increases(
        graph,
        units,
        {plans[0].node: Candidates(plans, tuning)},
        parts,
        seed=0,
        device=CPU,
        progress=lambda key: None,
    )
    return found[plans[0].node]


def test_increases_are_those_of_the_reference_net():
    model, x = small()
    # a power of exponent 1 has the levels of the reference: as many below zero as above
    schemes = [f"weight power{bits} exponent=1 per_channel observer=minmax" for bits in REFERENCE]
    found = increases(model, x, schemes, "0")
    assert found == pytest.approx(list(REFERENCE.values()), rel=1e-6)


@pytest.mark.parametrize("nodes", MIDPOINTS)
def test_the_path_integral_adds_up_to_the_increase(nodes):
    """What one forward pass measures is what attribution along the path comes to."""
    model, x = small()
    weight = model[0].weight.detach()
    scale = weight.abs().amax(1, keepdim=True)
    step = (weight / scale).round() * scale - weight
    wanted = model(x).detach()

    def loss(moved):
        out = functional_call(model, {"0.weight": moved}, (x,))
        return divergence(out, wanted, 1.0).mean()

    total = torch.zeros(())
    for k in range(nodes):
        at = (weight + (k + 0.5) / nodes * step).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(at), at)
        total = total + (gradient * step).sum() / nodes
    assert float(total) == pytest.approx(MIDPOINTS[nodes], abs=1e-6)
    at = weight.clone().requires_grad_()
    (at_float,) = torch.autograd.grad(loss(at), at)
    assert at_float.abs().max() < 1e-15, "at the float point the gradient tells nothing"


class Skips(nn.Module):
    """A skip, an operation in place, a second output, and a layer that nothing reads."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.stem = nn.Linear(6, 8)
        self.one = nn.Linear(8, 8)
        self.two = nn.Linear(8, 8)
        self.idle = nn.Linear(8, 2)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu_(self.stem(x))
        y = self.one(x)
        y = x + self.two(y.relu_())
        return self.head(y), self.idle(x)


@pytest.mark.parametrize("path", ["stem", "one", "two", "head"])
def test_an_increase_is_that_of_the_model_with_this_layer_quantized(path, tmp_path):
    model = Skips().eval()
    x = torch.randn(24, 6, generator=torch.Generator().manual_seed(5))
    scheme = "weight int3 symmetric per_channel; act uint4 asymmetric per_tensor"
    (found,) = increases(model, x, [scheme], path, batches=x.split(8))
    recipe = recipe_of(
        f'scheme s {{ {scheme} }}\npolicy main {{ use s for "{path}" }}\n'
        'calibrate { data = "memory:x"; samples = 24; batch = 8; seed = 1 }\n'
    )
    bound = qcompile.bind(recipe, model, (x[:2],))
    made = qcompile.run(qcompile.plan(bound, x), tmp_path / "out", bound=bound, data=x)
    with torch.no_grad():
        each = divergence(made(x)[0].double(), model(x)[0].double(), 1.0)
    assert found > 1e-5
    assert found == pytest.approx(float(each.mean()), rel=1e-4)


class Writes(nn.Module):
    """Memory that is read is written to, and nobody reads what the writing gives back."""

    def __init__(self, way):
        super().__init__()
        torch.manual_seed(4)
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.way = way

    def forward(self, x):
        y = self.one(x)
        match self.way:
            case "slice":
                y[:, :4] = 0.5
            case "method":
                y.mul_(0.25)
            case "view":
                y.view(-1, 2, 3).add_(1.0)
        return self.two(torch.tanh(y))


@pytest.mark.parametrize("way", ["slice", "method", "view"])
@pytest.mark.parametrize("path", ["one", "two"])
def test_what_is_written_in_place_counts(way, path):
    model = Writes(way).eval()
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(5))
    (found,) = increases(model, x, ["weight int3 symmetric per_channel"], path, batches=x.split(8))
    changed = deepcopy(model)
    with torch.no_grad():
        weight = model.get_submodule(path).weight
        spec = bound_with(model, x, "weight int3 symmetric per_channel", f'use s for "{path}"')
        (plan,) = spec.planned[0].tensors
        code = quantize_weight(weight, plan.spec, 0, weight_range(weight, plan.spec, 0))
        changed.get_submodule(path).weight.copy_(code.dequantize(weight.dtype))
        wanted = divergence(changed(x).double(), model(x).double(), 1.0).mean()
    assert found == pytest.approx(float(wanted), rel=1e-4)
    assert found > 1e-6


def pair(wanted, change=0.1):
    wanted = torch.as_tensor(wanted, dtype=torch.float32)
    return [wanted + change * torch.arange(wanted.numel()).view(wanted.shape)], [wanted]


def test_maps_have_their_classes_along_the_second_axis():
    found, wanted = pair(torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(1)))
    rows = [one[0].movedim(1, -1).reshape(-1, 5) for one in (found, wanted)]
    assert increase(found, wanted) == pytest.approx(increase([rows[0]], [rows[1]]), rel=1e-6)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (2, 1, 3, 3), ()])
def test_an_output_without_classes_costs_its_squared_error(shape):
    wanted = torch.full(shape, 2.0)
    assert increase([wanted + 0.5], [wanted]) == pytest.approx(1 / 16)
    assert increase([torch.zeros(shape)], [torch.zeros(shape)]) == 0.0


def test_classes_that_both_rule_out_are_none():
    wanted = torch.tensor([[1.0, 2.0, -torch.inf], [0.5, -torch.inf, -torch.inf]])
    found = wanted + torch.tensor([[0.0, 0.3, 0.0], [0.2, 0.0, 0.0]])
    expected = divergence(found[:1, :2], wanted[:1, :2], 1.0).sum() / 2
    assert increase([found], [wanted]) == pytest.approx(float(expected), rel=1e-5)


def test_an_output_that_is_not_finite_costs_more_than_any_other_and_a_float_one_is_refused():
    wanted = torch.zeros(2, 3)
    assert increase([torch.full((2, 3), torch.nan)], [wanted]) == OUT_OF_RANGE
    model = nn.Sequential(nn.Linear(4, 4), NotFinite(), nn.Linear(4, 3)).eval()
    with pytest.raises(CompileError) as refused:
        increases(model, torch.ones(8, 4), ["weight int4"], "0")
    assert [one.code.number for one in refused.value.diagnostics] == ["QR904"]


class NotFinite(nn.Module):
    def forward(self, x):
        return torch.log(x - x.abs() - 1)


def test_what_the_output_does_not_depend_on_costs_nothing():
    model = Skips().eval()
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(5))
    assert increases(model, x, ["weight int2", "weight int4"], "idle") == (0.0, 0.0)


def test_the_model_and_the_batches_stay_as_they_are():
    model = Skips().eval()
    before = deepcopy(model.state_dict())
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(5))
    kept = x.clone()
    increases(model, x, ["weight int2", "weight int4"], "one")
    assert torch.equal(x, kept)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_layer_is_measured_as_its_solver_rounds_it():
    model = Skips().eval()
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(5))
    scheme = ["weight int2 symmetric per_channel"]
    (nearest,) = increases(model, x, scheme, "one", batches=x.split(16))
    (fitted,) = increases(model, x, scheme, "one", tuning=preset("hybrid"), batches=x.split(16))
    assert 0 < fitted < nearest


def test_plans_that_are_the_same_cost_the_same():
    model, x = small()
    one, two = increases(model, x, ["weight int3"] * 2, "0")
    assert one == two > 0
    assert math.isfinite(one)

"""What quantizing one site costs: reference values, whole models, and the path integral."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.func import functional_call

import qcompile
from qcompile.methods.presets import preset
from qcompile.passes.loss_increase import Candidates, loss_increases
from qcompile.quant.losses.prediction import divergence
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

"""Factors moved between layers leave the function as it is, whatever is asked in what order."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from qcompile.analysis.exchanges import exchanges
from qcompile.capture.trace import trace
from qcompile.passes.fold_batch_norm import FoldBatchNorm
from qcompile.passes.norm_statistics import statistics
from qcompile.passes.rescale import rescaled
from qcompile.policy.core import ParameterPlan, TransformPlan
from qcompile.quant.rescalings.registry import RESCALINGS

SETTINGS = {
    "equalize": {"iterations": 2},
    "smoothquant": {"alpha": 0.5},
    "awq": {"grid": 4},
    "ln_reparam": {"alpha": 1.0},
}


class Block(nn.Module):
    """Every sort of place at once."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.q, self.k = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        self.gain = nn.Parameter(torch.ones(6))
        self.gate, self.up, self.down = nn.Linear(6, 9), nn.Linear(6, 9), nn.Linear(9, 6)
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x):
        y = self.norm(x)
        x = x + self.q(y) * torch.sigmoid(self.k(y))
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.gain
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return self.second(F.relu(self.first(x)))


def model(seed=0):
    torch.manual_seed(seed)
    made = Block().double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter) * torch.rand(parameter.shape[-1:]).double())
    return trace(made, (torch.randn(2, 3, 6).double(),), {}).module


def batches(count=2, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return [{"x": torch.randn(4, 3, 6, generator=generator).double()} for _ in range(count)]


def plans(module, *names):
    return [
        TransformPlan(
            name=name,
            target="",
            value=place.value,
            settings=tuple(
                ParameterPlan(name=key, value=value)
                for key, value in SETTINGS.get(name, {}).items()
            ),
        )
        for name in names
        for place in exchanges(module)
        if name != "equalize" or place.kind == "layer"
    ]


def run(module, *names, device="cpu"):
    return rescaled(module, plans(module, *names), {}, batches(), torch.device(device))


@settings(max_examples=15, deadline=None)
@given(
    names=st.lists(st.sampled_from([row.name for row in RESCALINGS]), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_the_function_stays(names, seed):
    module = model(seed)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = run(module, *names)
    assert found is not None
    assert found.difference < 1e-10
    fresh = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(seed)).double()
    torch.testing.assert_close(found.module(fresh), module(fresh), rtol=1e-9, atol=1e-9)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} of the given module has changed"


def test_parameters_do_change():
    module = model()
    found = run(module, "smoothquant")
    assert found is not None
    old, new = module.state_dict(), found.module.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {
        *("norm.weight", "norm.bias", "q.weight", "k.weight", "gain", "gate.weight", "up.weight"),
        *("up.bias", "down.weight", "first.weight", "first.bias", "second.weight"),
    }


def test_a_shift_goes_into_the_biases_of_the_readers():
    torch.manual_seed(0)
    chain = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 4)).double().eval()
    with torch.no_grad():
        chain[0].bias.copy_(torch.arange(6))
    module = trace(chain, (torch.randn(2, 6).double(),), {}).module
    batch = {next(iter(module.graph.nodes)).name: torch.randn(64, 6).double()}
    found = rescaled(module, plans(module, "ln_reparam"), {}, [batch], torch.device("cpu"))
    assert found is not None
    assert not torch.equal(found.module.state_dict()["1.bias"], chain[1].bias)
    x = torch.randn(8, 6).double()
    torch.testing.assert_close(found.module(x), chain(x))
    new, old = (
        norm(x).detach().mean(0).std() for norm in (found.module.get_submodule("0"), chain[0])
    )
    assert new < old / 2


def test_repeated_equalization_comes_to_rest():
    module = model()
    moved = run(module, "equalize").moved
    last = moved[len(moved) // 2 :]
    assert all(one.least == pytest.approx(1, abs=0.2) for one in last)
    assert len(moved) == 2 * len(plans(module, "equalize"))


def test_nothing_asked_is_nothing_done():
    module = model()
    fold = TransformPlan(name="fold_bn", target="a", sources=("b",))
    assert rescaled(module, [fold], {}, batches(), torch.device("cpu")) is None


def test_parameters_keep_their_types():
    module = model()
    found = run(module, "awq", "smoothquant")
    assert {p.dtype for p in found.module.parameters()} == {torch.float64}


def test_what_a_folded_norm_says_of_its_layer_is_scaled_with_it():
    torch.manual_seed(0)
    chain = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3)
    ).eval()
    with torch.no_grad():
        chain[1].weight.copy_(torch.tensor([0.1, 1.0, 10.0]))
        chain[1].bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    traced = trace(chain, (torch.randn(2, 2, 9, 9),), {}).module
    module = FoldBatchNorm().run(traced).module
    batch = {next(iter(module.graph.nodes)).name: torch.randn(4, 2, 9, 9)}
    found = rescaled(module, plans(module, "equalize"), {}, [batch], torch.device("cpu"))
    assert found is not None
    (before,) = statistics(module, module.graph.nodes).values()
    (after,) = statistics(found.module, found.module.graph.nodes).values()
    old, new = (m.get_parameter("0.weight").flatten(1)[:, 0] for m in (module, found.module))
    torch.testing.assert_close(after.mean, before.mean * new / old)
    torch.testing.assert_close(after.deviation, before.deviation * new / old)
    assert not torch.equal(after.mean, before.mean)

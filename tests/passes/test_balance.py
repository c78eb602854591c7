"""Channels in front of a rotation: what they are given, and that the function stays."""

import pytest
import torch
from torch import nn

from qcompile.capture.balance import ChannelBalance
from qcompile.capture.rotation import rotated
from qcompile.capture.trace import trace
from qcompile.passes.balance import LEAST, balanced, balances
from qcompile.passes.pipeline import run_passes
from qcompile.passes.rotate import Rotate
from qcompile.policy.rotation import LOOKED_AT

CPU = torch.device("cpu")


class Twice(nn.Module):
    """Two layers read one value, as projections of attention do."""

    def __init__(self, bias=True):
        super().__init__()
        self.one, self.two = nn.Linear(16, 8), nn.Linear(16, 4, bias=bias)

    def forward(self, x):
        return torch.cat([self.one(x), self.two(x)], -1)


def data(count=LOOKED_AT, dead=()):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 6, 5, 16, generator=generator) * torch.logspace(-1, 1, 16)
    x += torch.linspace(-3, 3, 16)
    x[..., list(dead)] = 0.0
    return x


def rotated_graph(model, x):
    graph = trace(model, (x[0],), {}).module
    paths = {"one": 8, "two": 8}
    return run_passes(graph, (Rotate(paths, frozenset(paths)),)).module


def made(model, x, shifting=("one.bias", "two.bias")):
    graph = rotated_graph(model, x)
    found = balanced(graph, frozenset(shifting), [{"x": batch} for batch in x], CPU)
    return graph, found


def test_a_layer_without_a_bias_gets_one_for_what_means_gave():
    torch.manual_seed(0)
    model, x = Twice(bias=False).eval(), data()
    graph, found = made(model, x)
    assert not graph.get_parameter("two.bias").any()
    assert torch.allclose(graph(x[0]), model(x[0]), atol=1e-5)
    leaf = leaf_of(found.module)
    assert torch.allclose(leaf.shift, x.mean((0, 1, 2)), atol=1e-5)
    bias = model.two.weight @ leaf.shift
    assert torch.allclose(found.module.get_parameter("two.bias"), bias, atol=1e-4)
    assert torch.allclose(found.module(x[0]), model(x[0]), atol=1e-4)
    assert model.two.bias is None


def test_a_rotation_alone_adds_no_bias():
    x = data()
    graph = trace(Twice(bias=False).eval(), (x[0],), {}).module
    turned = run_passes(graph, (Rotate({"one": 8, "two": 8}),)).module
    assert turned.get_submodule("two").bias is None


def leaf_of(module):
    (leaf,) = (m for m in module.modules() if isinstance(m, ChannelBalance))
    return leaf


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Twice().eval()


def test_the_function_stays_and_the_graph_that_was_given(model):
    x = data()
    graph, found = made(model, x)
    assert found.difference < 1e-5
    assert torch.allclose(found.module(x[0]), model(x[0]), atol=1e-4)
    assert bool((leaf_of(graph).gain == 1).all())
    assert not leaf_of(graph).shift.any()
    assert torch.allclose(graph(x[0]), model(x[0]), atol=1e-4)


def test_channels_have_the_mean_zero_and_the_gain_of_the_least_error(model):
    """The product of both sums is the square of one, which is as small as any gain makes it."""
    x = data()
    _, found = made(model, x)
    leaf = leaf_of(found.module)
    rows = x.double().view(-1, 16)
    assert torch.allclose(leaf.shift.double(), rows.mean(0), rtol=1e-5)
    spread = rows.std(0, correction=0)
    weight = torch.cat([model.one.weight, model.two.weight]).detach().double()
    norm = weight.square().sum(0).sqrt()
    gain = leaf.gain.double()
    error = (gain * spread).square().sum() * (norm / gain).square().sum()
    assert float(error) == pytest.approx(float((spread * norm).sum().square()), rel=1e-5)
    assert float(gain.log().mean()) == pytest.approx(0, abs=1e-6)
    (moved,) = found.moved
    assert (moved.least, moved.largest) == (float(gain.min()), float(gain.max()))


def test_weights_are_divided_and_biases_take_the_mean(model):
    x = data()
    _, found = made(model, x)
    leaf = leaf_of(found.module)
    plain = rotated(found.module.get_parameter("one.weight").detach(), 8)
    expected = model.one.weight.detach().double() / leaf.gain.double()
    assert torch.allclose(plain, expected, atol=1e-6)
    bias = model.one.bias + model.one.weight @ leaf.shift
    assert torch.allclose(found.module.get_parameter("one.bias"), bias, atol=1e-5)


@pytest.mark.parametrize("shifting", [(), ("one.bias",)])
def test_a_mean_stays_where_a_reader_has_no_bias_to_take_it(model, shifting):
    _, found = made(model, data(), shifting)
    leaf = leaf_of(found.module)
    assert not leaf.shift.any()
    assert bool((leaf.gain != 1).any())
    assert torch.equal(found.module.get_parameter("one.bias"), model.one.bias)


def test_dead_channels_have_a_bounded_gain(model):
    x = data(dead=(3, 4))
    with torch.no_grad():
        model.one.weight[:, 9] = 0
        model.two.weight[:, 9] = 0
    _, found = made(model, x)
    gain = leaf_of(found.module).gain
    assert bool(torch.isfinite(gain).all())
    assert float(gain.max() / gain.min()) <= 1 / LEAST
    assert found.difference < 1e-4


def test_a_value_that_is_always_zero_is_left_alone(model):
    _, found = made(model, torch.zeros(2, 6, 5, 16))
    assert bool((leaf_of(found.module).gain == 1).all())


def test_the_first_batches_are_looked_at(model):
    x = data(LOOKED_AT + 3)
    first = made(model, x[:LOOKED_AT])[1]
    assert torch.equal(leaf_of(made(model, x)[1].module).gain, leaf_of(first.module).gain)
    fewer = made(model, x[: LOOKED_AT - 1])[1]
    assert not torch.equal(leaf_of(fewer.module).gain, leaf_of(first.module).gain)


def test_an_input_that_the_data_lacks_has_its_default(model):
    x = data()
    graph = rotated_graph(model, x)
    with graph.graph.inserting_after(next(iter(graph.graph.nodes))):
        graph.graph.placeholder("flag", default_value=None)
    graph.recompile()
    found = balanced(graph, frozenset(), [{"x": batch} for batch in x], CPU)
    assert found.difference < 1e-5


def test_a_graph_without_balances_is_left_alone(model):
    x = data()
    graph = run_passes(trace(model, (x[0],), {}).module, (Rotate({"one": 8}),)).module
    assert balances(graph) == ()
    assert balanced(graph, frozenset(), [{"x": x[0]}], CPU) is None


@pytest.mark.parametrize("features", [0, -1, 4.0, True, "4"])
def test_features_are_a_number(features):
    with pytest.raises(ValueError, match="no number of features"):
        ChannelBalance(features)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_keep_theirs(model, dtype):
    x = data().to(dtype)
    _, found = made(model.to(dtype), x)
    assert leaf_of(found.module).gain.dtype == dtype
    assert found.module(x[0]).dtype == dtype
    assert found.difference < 32 * found.resolution

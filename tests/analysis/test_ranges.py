from math import inf

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn
from torch.nn import functional as F

from qcompile.analysis.ranges import ranges_of
from qcompile.analysis.transfer import FUNCTIONS, MODULES
from qcompile.capture.trace import trace


class Program(nn.Module):
    def __init__(self, function, leaf=None):
        super().__init__()
        self.leaf = leaf or nn.Identity()
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def output_range(function, leaf=None):
    model = Program(function, leaf).eval()
    module = trace(model, (torch.randn(2, 6),), {}).module
    (output,) = module.graph.find_nodes(op="output")
    found = ranges_of(module)[output.args[0]]
    return found.low, found.high


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [
        (lambda m, x: torch.softmax(x, -1), 0, 1),
        (lambda m, x: torch.softmax(x, -1).transpose(0, 1).reshape(-1), 0, 1),
        (lambda m, x: F.relu(x) + F.relu(-x), 0, inf),
        (lambda m, x: F.relu(x) * torch.sigmoid(x), 0, inf),
        (lambda m, x: F.relu(x) @ x.abs().T, 0, inf),
        (lambda m, x: -F.relu(x), -inf, 0),
        (lambda m, x: torch.cat([F.relu(x), torch.sigmoid(x)]), 0, inf),
        (lambda m, x: F.pad(torch.exp(x), (1, 1)), 0, inf),
        (lambda m, x: x.clamp(-2, 3), -2, 3),
        (lambda m, x: x.clamp(min=-2), -2, inf),
        (lambda m, x: F.relu6(x), 0, 6),
        (lambda m, x: x * x, 0, inf),
        (lambda m, x: x**2, 0, inf),
        (lambda m, x: x**3, -inf, inf),
        (lambda m, x: torch.where(x > 0, x.sigmoid(), 2.0), 0, 2),
        (lambda m, x: x.sigmoid().masked_fill(x > 0, -3.0), -3, 1),
        (lambda m, x: F.relu(x).mean(0), 0, inf),
        (lambda m, x: F.relu(x).sum(0), 0, inf),
        (lambda m, x: x.max(-1).values, -inf, inf),
        (lambda m, x: torch.maximum(x, x.sigmoid()), 0, inf),
        (lambda m, x: F.scaled_dot_product_attention(x[None], x[None], x.sigmoid()[None]), 0, 1),
        (lambda m, x: torch.add(F.relu(x), F.relu(x), alpha=-2), -inf, inf),
        (lambda m, x: x + 1, -inf, inf),
    ],
)
def test_bounds_of_a_result(function, low, high):
    assert output_range(function) == (low, high)


@pytest.mark.parametrize(
    ("leaf", "minimum"),
    [
        (nn.GELU(), -0.1699712),
        (nn.GELU(approximate="tanh"), -0.1700408),
        (nn.SiLU(), -0.2784645),
        (nn.Mish(), -0.3088431),
        (nn.Hardswish(), -0.375),
        (nn.ELU(0.5), -0.5),
        (nn.CELU(2.0), -2.0),
        (nn.SELU(), -1.7580993),
    ],
    ids=str,
)
def test_lower_bound_of_a_smooth_activation_is_near_its_minimum(leaf, minimum):
    values = leaf(torch.linspace(-30, 30, 600_001, dtype=torch.float64))
    assert values.min().item() == pytest.approx(minimum, abs=1e-5)
    low, high = output_range(lambda m, x: m.leaf(x), leaf)
    assert minimum * 1.02 <= low < minimum
    assert high == inf


def test_layer_norm_is_bounded_by_the_number_of_its_values_and_the_bound_is_attained():
    norm = nn.LayerNorm(6, eps=1e-12)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 1, 1, 1, 1, 1]))
        norm.bias.fill_(0.5)
    low, high = output_range(lambda m, x: m.leaf(x), norm)
    spike = norm(torch.tensor([[1.0, 0, 0, 0, 0, 0]]))[0, 0].item()
    assert spike == pytest.approx(0.5 + 2 * 5**0.5, rel=1e-4)
    assert spike <= high <= spike * 1.01
    assert low == pytest.approx(0.5 - 2 * 5**0.5, rel=0.02)


def test_weights_without_data_bound_nothing():
    model = Program(lambda m, x: m.leaf(x), nn.LayerNorm(6)).to("meta")
    module = trace(model, (torch.randn(2, 6),), {}).module
    assert not any(found.is_known for found in ranges_of(module).values())


def written(m, x):
    y = F.relu(x)
    view = y.reshape(-1)
    y += x
    return view


def set_item(m, x):
    y = F.relu(x)
    y[:, 0] = x[:, 0]
    return y


@pytest.mark.parametrize("function", [written, set_item])
def test_a_write_in_place_is_seen_through_views(function):
    assert output_range(function) == (-inf, inf)


def test_an_activation_in_place_bounds_its_result():
    assert output_range(lambda m, x: m.leaf(x + 1), nn.ReLU(inplace=True)) == (0, inf)


# ---- soundness on random programs --------------------------------------------------------------

UNARY = (
    torch.relu,
    torch.sigmoid,
    torch.tanh,
    torch.exp,
    torch.abs,
    torch.neg,
    torch.square,
    F.gelu,
    F.silu,
    F.hardswish,
    F.relu6,
    torch.floor,
    lambda x: x.clamp(-1, 2),
    lambda x: x.clamp(max=0.5),
    lambda x: x.softmax(-1),
    lambda x: x.mean(-1, keepdim=True).expand_as(x),
    lambda x: x.cumsum(-1),
    lambda x: F.pad(x, (1, 0))[..., :-1],
    lambda x: x.amax(-1, keepdim=True) + x,
    lambda x: x - 3,
    lambda x: x / 2,
    lambda x: x**2,
    lambda x: x.masked_fill(x > 1, -1.5),
    lambda x: F.avg_pool1d(x, 3, 1, 1),
    lambda x: F.layer_norm(x, (6,)),
)
BINARY = (
    torch.add,
    torch.sub,
    torch.mul,
    torch.maximum,
    torch.minimum,
    lambda a, b: torch.where(a > 0, a, b),
    lambda a, b: torch.cat([a, b])[: a.shape[0]],
    lambda a, b: a / (b.abs() + 1),
)


@st.composite
def compositions(draw):
    steps = []
    for count in range(1, draw(st.integers(2, 9))):
        at = st.integers(0, count - 1)
        if draw(st.booleans()):
            steps.append((draw(st.sampled_from(UNARY)), (draw(at),)))
        else:
            steps.append((draw(st.sampled_from(BINARY)), (draw(at), draw(at))))
    return steps


@settings(max_examples=20, deadline=None)
@given(compositions(), st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 30.0]))
def test_no_value_ever_leaves_its_interval(steps, seed, spread):
    def run(m, x):
        values = [x]
        for function, operands in steps:
            values.append(function(*(values[at] for at in operands)))
        return values[-1]

    module = trace(Program(run), (torch.randn(4, 6),), {}).module
    found = ranges_of(module)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)) * spread

    class Watch(fx.Interpreter):
        def run_node(self, n):
            value = super().run_node(n)
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                kept = value[value.isfinite()]
                assert bool(((kept >= found[n].low) & (kept <= found[n].high)).all()), n
            return value

    Watch(module).run(x)


def test_every_module_of_the_table_is_sound_on_a_wide_grid():
    x = torch.linspace(-40, 40, 6 * 400).reshape(1, 4, -1, 6)
    for kind in MODULES:
        match kind.__name__:
            case "LayerNorm" | "RMSNorm":
                leaf = kind(6)
            case "Softmax" | "Softmin" | "LogSoftmax":
                leaf = kind(-1)
            case name if "Pool" in name or "Pad" in name:
                leaf = kind(2)
            case _:
                leaf = kind()
        sizes = 2 if "1d" in kind.__name__ else 3 if "3d" in kind.__name__ else 4
        given_input = x[0] if sizes == 2 else x[None] if sizes == 3 else x
        module = trace(Program(lambda m, y: m.leaf(y), leaf).eval(), (given_input,), {}).module
        (output,) = module.graph.find_nodes(op="output")
        found = ranges_of(module)[output.args[0]]
        made = leaf(given_input)
        assert found.low <= made.min().item(), kind
        assert made.max().item() <= found.high, kind


def test_no_function_of_the_table_is_misspelt():
    homes = (torch, F, torch.Tensor)
    operators = {"truediv"}
    unknown = {name for name in FUNCTIONS if not any(hasattr(home, name) for home in homes)}
    assert unknown == operators

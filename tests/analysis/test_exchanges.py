"""Between which parameters a factor may move, on graphs that one would judge by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qcompile.analysis.exchanges import exchanges
from qcompile.capture.trace import trace


class Made(nn.Module):
    """Layers by name, and a program that uses them."""

    def __init__(self, program, **modules):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4))
        self.matrix = nn.Parameter(torch.ones(4, 4))
        for name, module in modules.items():
            self.add_module(name, module)
        self.program = program

    def forward(self, x: Tensor) -> Tensor:
        return self.program(self, x)


def found(program, x=None, **modules):
    torch.manual_seed(0)
    example = torch.randn(2, 3, 4) if x is None else x
    module = trace(Made(program, **modules).eval(), (example,), {}).module
    return [
        (one.kind, [p.path for p in one.divided], [r.weight.path for r in one.readers], one.axis)
        for one in exchanges(module)
    ]


def lin(**settings):
    return nn.Linear(4, 4, **settings)


def conv(inside=4, outside=4, **settings):
    return nn.Conv2d(inside, outside, 3, padding=1, **settings)


IMAGE = torch.zeros(2, 4, 6, 6)


def test_norm_and_all_that_reads_it():
    (one,) = found(lambda m, x: m.a(h := m.n(x)) + m.b(h), n=nn.LayerNorm(4), a=lin(), b=lin())
    assert one == ("norm", ["n.weight", "n.bias"], ["a.weight", "b.weight"], -1)


def test_gain_of_a_norm_by_hand():
    def program(m, x):
        normal = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return m.a(m.gain * normal)

    assert found(program, a=lin()) == [("gain", ["gain"], ["a.weight"], -1)]


def test_layers_with_nothing_a_relu_or_a_pool_between():
    layer = ("layer", ["a.weight", "a.bias"], ["b.weight"], -1)
    assert found(lambda m, x: m.b(m.a(x)), a=lin(), b=lin()) == [layer]
    assert found(lambda m, x: m.b(F.relu(m.a(x))), a=lin(), b=lin()) == [layer]
    modules = {"r": nn.ReLU(inplace=True), "p": nn.MaxPool2d(2)}
    (one,) = found(lambda m, x: m.b(m.p(m.r(m.a(x)))), IMAGE, a=conv(), b=conv(), **modules)
    assert one == ("layer", ["a.weight", "a.bias"], ["b.weight"], 1)


def test_the_factor_of_a_gated_product_that_no_activation_follows():
    def gated(m, x):
        return m.down(F.silu(m.gate(x)) * m.up(x))

    assert found(gated, gate=lin(), up=lin(), down=lin()) == [
        ("layer", ["up.weight", "up.bias"], ["down.weight"], -1)
    ]


def test_each_channel_of_a_depthwise_convolution_has_its_own_filter():
    (first, second) = found(
        lambda m, x: m.c(m.b(m.a(x))), IMAGE, a=conv(), b=conv(groups=4), c=conv()
    )
    assert first == ("layer", ["a.weight", "a.bias"], ["b.weight"], 1)
    assert second == ("layer", ["b.weight", "b.bias"], ["c.weight"], 1)
    module = trace(Made(lambda m, x: m.b(m.a(x)), a=conv(), b=conv(groups=4)).eval(), (IMAGE,), {})
    (one,) = exchanges(module.module)
    assert one.readers[0].weight.axis == 0


def test_functions_with_parameters_of_the_model():
    program = lambda m, x: F.linear(F.layer_norm(x, (4,), m.gain), m.matrix)  # noqa: E731
    assert found(program) == [("norm", ["gain"], ["matrix"], -1)]


@pytest.mark.parametrize(
    "program",
    [
        lambda m, x: m.b(h := m.a(x)) + h,  # read by something else
        lambda m, x: m.b(torch.sigmoid(m.a(x))),
        lambda m, x: m.b(F.gelu(m.a(x))),
        lambda m, x: m.b(m.a(x) + x),
        lambda m, x: m.b(m.a(m.a(x))) + m.a(x),  # called three times
        lambda m, x: m.b(F.relu(h := m.a(x))) + h.sum(),
        lambda m, x: m.b(m.a(x).transpose(1, 2).reshape(2, 3, 4)),  # channels move
        lambda m, x: m.b(m.a(x)) @ m.b.weight,  # the weight is read twice
        lambda m, x: F.linear(m.a(x), torch.relu(m.b.weight)),
        lambda m, x: m.b(x),
    ],
)
def test_where_no_factor_may_move(program):
    assert found(program, a=lin(), b=lin()) == []


@pytest.mark.parametrize(
    "program",
    [
        lambda m, x: m.b((h := m.a(x)) * h),  # a square is no factor
        lambda m, x: m.b(F.max_pool1d(m.a(x), 3, 1, 1)),  # over the channels
        lambda m, x: m.b(F.linear(x, m.matrix, m.steps)),
        lambda m, x: m.b(F.linear(x, m.matrix, m.gain.exp())),
        lambda m, x: m.b(F.layer_norm(x, (4,), m.gain, m.steps)),
        lambda m, x: m.b(torch.addmm(x[0], x[1], m.matrix)),
        lambda m, x: m.b(torch.addmm(m.table, x[0], m.matrix)),  # a bias for each row as well
        lambda m, x: m.b(torch.matmul(x[:, [0, 1, 2, 0]], m.vector)),
        lambda m, x: torch.addmm(h := m.a(x[0, [0, 1, 2, 0]]), h, m.matrix),
        lambda m, x: m.b((y := x * 2).mul_(m.gain)) + y.view(-1).sum(),
    ],
)
def test_where_it_would_change_the_function(program):
    class Other(Made):
        def __init__(self):
            super().__init__(program, a=lin(), b=lin())
            self.register_buffer("steps", torch.arange(4.0))
            self.table = nn.Parameter(torch.ones(3, 4))
            self.vector = nn.Parameter(torch.ones(4))

    module = trace(Other().eval(), (torch.randn(2, 3, 4),), {}).module
    assert exchanges(module) == ()


def test_scaled_products_take_factors_but_no_shift():
    def scaled(m, x):
        return torch.addmm(m.gain, m.n(x), m.matrix, alpha=2, beta=3)

    module = trace(Made(scaled, n=nn.LayerNorm(4)).eval(), (torch.randn(3, 4),), {}).module
    (one,) = exchanges(module)
    assert not one.takes_shift


def test_tied_weights_stay():
    tied = lin()
    other = lin()
    other.weight = tied.weight
    assert found(lambda m, x: m.c(m.a(x)) + m.b(x), a=tied, b=other, c=lin()) == []


def test_reflected_padding_is_a_scaled_copy_but_other_channels_groups_are_not():
    assert found(lambda m, x: m.b(m.a(x)), IMAGE, a=conv(), b=conv(groups=2)) == []
    circular = conv(padding_mode="circular")
    assert len(found(lambda m, x: m.b(m.a(x)), IMAGE, a=conv(), b=circular)) == 1


def test_a_shift_needs_a_bias_on_either_side_and_no_padding():
    def takes(program, x=None, **modules):
        example = torch.randn(2, 3, 4) if x is None else x
        module = trace(Made(program, **modules).eval(), (example,), {}).module
        return [one.takes_shift for one in exchanges(module)]

    def norm_then_layer(m, x):
        return m.a(m.n(x))

    assert takes(norm_then_layer, n=nn.LayerNorm(4), a=lin()) == [True]
    assert takes(norm_then_layer, n=nn.LayerNorm(4), a=lin(bias=False)) == [False]
    assert takes(norm_then_layer, n=nn.RMSNorm(4), a=lin()) == [False]
    assert takes(norm_then_layer, IMAGE, n=nn.BatchNorm2d(4), a=conv()) == [False]
    assert takes(lambda m, x: m.a(F.relu(m.n(x))), n=nn.LayerNorm(4), a=lin()) == [False]

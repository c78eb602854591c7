import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qcompile.compat.cpu_features import multiplies_bytes
from qcompile.compat.onednn_operations import onednn
from qcompile.emit.lower.agreement import compare
from qcompile.emit.lower.difference import relative
from qcompile.emit.lower.kernels import max_pool_codes, pad_codes, quantize
from qcompile.emit.lower.replay import record
from qcompile.policy.scheme import PerTensor
from tests.emit.lowering import X86, calls, close, lowered, same_bits, slot

pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")

AFTER_CONV = [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardswish(), nn.SiLU()]
AFTER_LINEAR = [nn.ReLU(), nn.GELU(), nn.GELU("tanh"), nn.Hardtanh(-0.5, 0.7), nn.Tanh()]


OTHER_LAST_BITS = (nn.Hardswish, nn.SiLU, nn.Tanh)
"""oneDNN has formulas of its own for them, and for this one."""
TANH_GELU = "GELU(approximate='tanh')"


@pytest.mark.parametrize("activation", AFTER_CONV, ids=str)
def test_an_activation_behind_a_convolution_is_taken_over(planned, activation):
    net = nn.Sequential(nn.Conv2d(4, 6, 3), activation, nn.Flatten(2))
    x = torch.randn(3, 4, 9, 12)
    reference, made = lowered(planned, net, x[:2])
    close(reference, made, x, bits=not isinstance(activation, OTHER_LAST_BITS))
    assert [len(layer.fused) for layer in made.report.layers] == [1]
    assert not any(
        node.op == "call_module" for node in made.module.graph.nodes if node.target != "2"
    )


@pytest.mark.parametrize("activation", AFTER_LINEAR, ids=str)
def test_an_activation_behind_a_linear_layer_is_taken_over(planned, activation):
    x = torch.randn(7, 24)
    reference, made = lowered(planned, nn.Sequential(nn.Linear(24, 10), activation), x[:2])
    is_other = isinstance(activation, OTHER_LAST_BITS) or str(activation) == TANH_GELU
    close(reference, made, x, bits=not is_other)
    assert [len(layer.fused) for layer in made.report.layers] == [1]


class Functions(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(24, 24) for _ in range(5))

    def forward(self, x):
        a, b, c, d, e = self.layers
        x = F.relu6(a(x)).clamp(0.1, 0.3)
        x = torch.relu(b(x))
        x = F.gelu(c(x), approximate="tanh")
        x = torch.clamp(d(x), min=-1.0, max=1.0)
        return torch.clamp(e(x), min=0.0)


def test_activations_written_as_functions_are_taken_over_where_they_are_known(planned):
    x = torch.randn(7, 24)
    reference, made = lowered(planned, Functions(), x[:2])
    assert relative(made.module(x), reference(x)) < 5e-3
    fused = [layer.fused for layer in made.report.layers]
    into_codes = [(name, "quantize") for name in ("relu", "gelu", "hardtanh")]
    assert fused == [("hardtanh",), *into_codes, ()]


def test_a_value_that_only_integer_layers_read_stays_in_codes(planned):
    net = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 8))
    x = torch.randn(7, 24, generator=torch.Generator().manual_seed(1))
    reference, made = lowered(planned, net, x[:2])
    assert calls(made).count(quantize) == 1
    assert made.report.layers[0].fused == ("relu", "quantize")
    assert same_bits(reference, made, x)


def test_codes_of_fewer_than_8_bits_get_a_quantizer_of_their_own(planned):
    """oneDNN saturates at 255, a 4-bit grid at 15."""
    net = nn.Sequential(nn.Linear(24, 16), nn.Linear(16, 8))
    x = 4 * torch.randn(7, 24)
    reference, made = lowered(planned, net, x[:2], act=slot(4, False, False, PerTensor()))
    assert calls(made).count(quantize) == 2
    assert same_bits(reference, made, x)


class Residual(nn.Module):
    """``kind`` says what becomes of the shortcut besides being added."""

    def __init__(self, kind):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(4, 4, 3, padding=1)
        self.kind = kind

    def forward(self, x):
        y = torch.relu(self.first(x))
        match self.kind:
            case "plain":
                return torch.relu(self.second(y) + y)
            case "model input":
                return torch.relu(self.first(x) + x)
            case "read later":
                return torch.relu(self.second(y) + y) * y
            case "an output":
                return torch.relu(self.second(y) + y), y
            case "a view":
                flat = y.flatten(1)
                return torch.relu(self.second(y) + y).flatten(1) - flat
            case "broadcast":
                return self.second(y) + y[:1]
            case "scaled":
                return torch.add(self.second(y), y, alpha=2)
            case "in place on the product":
                z = self.second(y)
                z += y
                return z
            case "in place on the shortcut":
                y += self.second(y)
                return self.third(y) * y


SAFE = {"plain", "in place on the product"}
KINDS = ("plain", "model input", "read later", "an output", "a view", "broadcast", "scaled")
IN_PLACE = ("in place on the product", "in place on the shortcut")


@pytest.mark.parametrize("kind", [*KINDS, *IN_PLACE])
def test_a_sum_is_written_over_the_shortcut_only_where_nobody_sees_it(planned, kind):
    """oneDNN's sum overwrites: torch 2.13 with Inductor overwrote the model's own input."""
    x = torch.randn(3, 4, 9, 9, generator=torch.Generator().manual_seed(2))
    reference, made = lowered(planned, Residual(kind), x[:2])
    assert (onednn().conv2d_add in calls(made)) == (kind in SAFE)
    before = x.clone()
    first, again = made.module(x), made.module(x)
    assert torch.equal(x, before)
    expected = reference(x)
    for found in (first, again):
        pairs = zip(found, expected, strict=True) if kind == "an output" else [(found, expected)]
        assert all(relative(one, other) < 5e-3 for one, other in pairs)


class LinearResidual(nn.Module):
    """``kind`` says what the sum is with, or who else looks at that."""

    def __init__(self, kind):
        super().__init__()
        self.first, self.second = nn.Linear(24, 24), nn.Linear(24, 24)
        self.norm = nn.LayerNorm(24)
        self.kind = kind

    def forward(self, x):
        y = self.first(x)
        match self.kind:
            case "plain":
                return self.second(y) + y
            case "normed before":
                return self.second(self.norm(y)) + y
            case "model input":
                return self.second(x) + x
            case "turned model input":
                return self.second(x.transpose(0, 1)) + x.transpose(0, 1)
            case "read later":
                return (self.second(y) + y) * y
            case "an output":
                return torch.stack((self.second(y) + y, y))
            case "a view read later":
                row = y[0]
                return (self.second(y) + y) * row
            case "a view of a view read later":
                row = y.flatten(0, 1)[:1]
                return (self.second(y) + y) * row


OVERWRITES = {"plain", "normed before"}
BY_ROWS = (
    *("plain", "normed before", "model input", "turned model input", "read later"),
    *("an output", "a view read later", "a view of a view read later"),
)


@pytest.mark.parametrize("kind", BY_ROWS)
def test_a_linear_sum_is_written_over_what_nobody_sees_and_right_for_any_strides(planned, kind):
    """oneDNN takes rows for granted that lie one behind the other: it checks nothing."""
    x = torch.randn(5, 5, 24, generator=torch.Generator().manual_seed(4))
    reference, made = lowered(planned, LinearResidual(kind), x)
    sums = [n for n in made.module.graph.nodes if n.target is onednn().linear_add]
    assert [("sum" in n.args) for n in sums] == [kind in OVERWRITES]
    for _ in range(2):
        close(reference, made, x)


class Sums(nn.Module):
    """An activation behind a sum, of either kind of layer."""

    def __init__(self, layer, activation):
        super().__init__()
        self.first, self.second = layer(), layer()
        self.activation = activation

    def forward(self, x):
        x = self.first(x)
        return self.activation(self.second(x) + x)


BEHIND_SUMS = [*AFTER_CONV[2:], nn.ReLU(), nn.Hardtanh(-0.5, 0.7), nn.GELU(), nn.Tanh()]


@pytest.mark.parametrize("activation", BEHIND_SUMS, ids=str)
@pytest.mark.parametrize("is_conv", [True, False])
def test_behind_a_sum_only_relu_is_taken_over(planned, activation, is_conv):
    """Others are errors of oneDNN when the model runs (torch 2.13)."""
    shape = (3, 24, 9, 9) if is_conv else (5, 24)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    layer = (lambda: nn.Conv2d(24, 24, 1)) if is_conv else (lambda: nn.Linear(24, 24))
    reference, made = lowered(planned, Sums(layer, activation), x)
    taken = ("add", "relu") if isinstance(activation, nn.ReLU) else ("add",)
    assert made.report.layers[1].fused == taken
    found = compare(record(reference, [made.module], [x]), made.module, [x], X86)
    assert found.problems == ()


class Shared(nn.Module):
    """One value into three layers; ``changed`` in place between two of them."""

    def __init__(self, changed):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(24, 6) for _ in range(3))
        self.changed = changed

    def forward(self, x):
        x = x * 2
        a = self.layers[0](x)
        if self.changed:
            x.add_(1)
        return a + self.layers[1](x) * self.layers[2](x)


@pytest.mark.parametrize(("changed", "quantizers"), [(False, 1), (True, 2)])
def test_equal_codes_of_one_value_are_made_once(planned, changed, quantizers):
    x = torch.randn(7, 24)
    reference, made = lowered(planned, Shared(changed), x[:2])
    assert calls(made).count(quantize) == quantizers
    close(reference, made, x)


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_codes_of_images_lie_channels_last_whatever_the_images(channels, layout, count):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, channels, 7, 9, generator=generator).contiguous(memory_format=layout)
    codes = quantize(x, 0.05, 20, 255, True)
    assert codes.is_contiguous(memory_format=torch.channels_last)
    expected = (x / 0.05).round().add(20).clamp(0, 255)
    assert torch.equal(codes.to(torch.float32), expected)


class ByPosition(nn.Module):
    """Linear layers on the channels of images, as ConvNeXt has them; a convolution beside one."""

    def __init__(self, with_conv):
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 8)
        self.conv = nn.Conv2d(6, 4, 1) if with_conv else None

    def forward(self, x):
        y = self.second(F.gelu(self.first(x)))
        return y if self.conv is None else (y, self.conv(x))


@pytest.mark.parametrize("with_conv", [False, True])
def test_codes_for_a_linear_layer_keep_the_rows_of_an_input_of_four_axes(planned, with_conv):
    x = torch.randn(3, 6, 5, 8, generator=torch.Generator().manual_seed(3))
    reference, made = lowered(planned, ByPosition(with_conv), x)
    found, expected = made.module(x), reference(x)
    pairs = zip(found, expected, strict=True) if with_conv else [(found, expected)]
    assert all(relative(one, other) < 5e-3 for one, other in pairs)
    codes = [node for node in made.module.graph.nodes if node.target is quantize]
    assert [node.args[-1] for node in codes] == [False, True][: 1 + with_conv]
    assert quantize(x, *codes[0].args[1:]).is_contiguous()


# ---- factors -------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """A factor for each output behind a layer, as LayerScale has it."""

    def __init__(self, layer, shape, kind="times"):
        super().__init__()
        self.layer, self.kind = layer, kind
        self.gamma = nn.Parameter(torch.randn(shape))

    def forward(self, x):
        y = self.layer(x)
        match self.kind:
            case "times":
                return torch.relu(x + y * self.gamma)
            case "in place":
                return y.mul_(self.gamma)
            case "read twice":
                return y * self.gamma - y
            case "input":
                return y * x


LINEAR, CONV = nn.Linear(24, 24), nn.Conv2d(4, 4, 3, padding=1)


@pytest.mark.parametrize(
    ("layer", "shape", "kind", "taken"),
    [
        (LINEAR, (24,), "times", ("scale", "add", "relu")),
        (nn.Linear(24, 24, bias=False), (1, 24), "times", ("scale", "add", "relu")),
        (LINEAR, (24,), "in place", ("scale",)),
        (LINEAR, (24,), "read twice", ()),
        (LINEAR, (24,), "input", ()),
        (LINEAR, (1,), "times", ()),
        (LINEAR, (5, 24), "times", ()),
        (CONV, (4, 1, 1), "times", ("scale",)),
        (CONV, (1, 4, 1, 1), "in place", ("scale",)),
        (CONV, (4, 9, 9), "in place", ()),
        (CONV, (9,), "in place", ()),
    ],
)
def test_a_factor_for_each_output_goes_into_scale_and_bias(planned, layer, shape, kind, taken):
    size = (5, 24) if isinstance(layer, nn.Linear) else (5, 4, 9, 9)
    x = torch.randn(size, generator=torch.Generator().manual_seed(4))
    reference, made = lowered(planned, Scaled(layer, shape, kind), x)
    close(reference, made, x)
    assert [planned_layer.fused for planned_layer in made.report.layers] == [taken]


# ---- operations that only choose among numbers ---------------------------------------------------

POOLS = [
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, 2, 1),
    nn.MaxPool2d((3, 2), (1, 2), (1, 0)),
    nn.MaxPool2d(3, 1, dilation=2),
    nn.MaxPool2d(1, 2),
]


@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_maximum_pooling_of_codes_is_that_of_torch(pool, layout):
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 256, (2, 5, 11, 14), dtype=torch.uint8, generator=generator)
    codes = codes.contiguous(memory_format=layout)
    sizes = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    found = max_pool_codes(codes, *((a, a) if isinstance(a, int) else a for a in sizes))
    assert torch.equal(found.to(torch.float32), pool(codes.to(torch.float32)))
    assert found.is_contiguous(memory_format=torch.channels_last)


class Chooses(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.first, self.between = nn.Conv2d(3, 8, 3), between
        self.second = nn.Conv2d(8, 4, 3)

    def forward(self, x):
        return self.second(self.between(torch.relu(self.first(x))))


BETWEEN = [
    (nn.MaxPool2d(3, 2, 1), [max_pool_codes]),
    (lambda x: F.max_pool2d(x, 2), [max_pool_codes]),
    (lambda x: torch.max_pool2d(x, (3, 2), stride=(2, 1), padding=1), [max_pool_codes]),
    (nn.ZeroPad2d((0, 1, 2, 1)), [pad_codes]),
    (lambda x: F.pad(x, (0, 1, -1, 1)), [pad_codes]),
    (nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(2)), [pad_codes, max_pool_codes]),
]


@pytest.mark.parametrize(("between", "expected"), BETWEEN)
def test_padding_and_maximum_pooling_are_done_on_the_codes_of_the_kernel(
    planned, between, expected
):
    x = torch.randn(3, 3, 15, 17, generator=torch.Generator().manual_seed(5))
    reference, made = lowered(planned, Chooses(between), x[:2])
    close(reference, made, x)
    conv = onednn().conv2d
    assert calls(made) == [quantize, conv, *expected, conv]
    assert [layer.fused for layer in made.report.layers] == [("relu", "quantize"), ()]


NOT_BETWEEN = [
    nn.AvgPool2d(2),
    nn.MaxPool2d(2, ceil_mode=True),
    lambda x: F.pad(x, (1, 1), value=0.75),
    lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    lambda x: F.max_pool2d(x, 2) + F.max_pool2d(x, 2),
]


@pytest.mark.parametrize("between", NOT_BETWEEN)
def test_other_operations_read_the_float_value(planned, between):
    x = torch.randn(3, 3, 15, 17, generator=torch.Generator().manual_seed(4))
    reference, made = lowered(planned, Chooses(between), x[:2])
    assert same_bits(reference, made, x)
    assert not {max_pool_codes, pad_codes} & set(calls(made))


class Stem(nn.Module):
    """A shortcut that starts behind a pooling, as in ResNet."""

    def __init__(self, pool):
        super().__init__()
        self.stem, self.pool, self.body = nn.Conv2d(3, 4, 3), pool, nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        y = self.pool(self.stem(x))
        return torch.relu(self.body(y) + y)


@pytest.mark.parametrize(
    ("pool", "taken"),
    [
        (nn.MaxPool2d(2), ("add", "relu")),
        (nn.AvgPool2d(2), ("add", "relu")),
        (nn.PixelShuffle(1), ()),
    ],
)
def test_a_sum_is_written_over_what_a_pooling_made(planned, pool, taken):
    x = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(4))
    reference, made = lowered(planned, Stem(pool), x[:2])
    assert made.report.layers[1].fused == taken
    recorded = record(reference, [made.module], [x])
    found = compare(recorded, made.module, [x], X86)
    assert (found.problems, found.layer_difference < 1e-4) == ((), True)

"""The simulation's integer layers: whole sums, in a fixed sequence of operations behind them."""

from dataclasses import astuple

import pytest
import torch
from torch import nn

from qcompile.capture.memory import may_be_written
from qcompile.capture.trace import trace
from qcompile.compat.quantize_to_bytes import quantize_to_floats
from qcompile.emit.lower.difference import relative
from qcompile.emit.lower.exact import simulation, slices_of
from qcompile.emit.lower.exact_kernels import exact_conv2d, exact_dynamic_linear, exact_linear
from qcompile.emit.lower.layer import ConvShape, layer_of
from qcompile.emit.lower.product import Product
from qcompile.emit.materialize import materialize
from qcompile.policy.scheme import PerChannel, PerGroup, PerTensor, PerToken
from qcompile.quant.fake_quantize import dequantize_weight, fake_quantize
from tests.emit.lowering import A8, W8, slot

W8Z = slot(8, False, False, PerChannel())
PER_TOKEN = slot(8, True, True, PerToken(), dynamic=True)


def simulated(planned, net, *example, weight=W8, act=A8):
    module = trace(net.eval(), example, {}).module
    plan, tensors = planned(module, weight, act, None)
    reference = materialize(module, plan.core, tensors)
    return reference, simulation(reference)


def targets(module):
    return [node.target for node in module.graph.nodes if node.op == "call_function"]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def deep():
    """Quantizers behind each other, each of which makes last bits into steps of a grid."""
    layers = []
    for _ in range(8):
        layers += [nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(nn.Conv2d(3, 16, 1), *layers, nn.Flatten(), nn.Linear(16 * 64, 10))


def test_a_deep_model_gives_each_image_the_same_bits_in_any_batch_and_layout(planned):
    torch.manual_seed(0)
    net, x = deep(), normal(33, 3, 8, 8)
    reference, made = simulated(planned, net, x[:2])
    together = made(x)
    alone = torch.cat([made(image) for image in x.split(1)])
    assert torch.equal(together, alone)
    assert torch.equal(together, made(x.contiguous(memory_format=torch.channels_last)))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert torch.equal(together, made(x))
    finally:
        torch.set_num_threads(threads)
    assert relative(together, reference(x)) < 0.05


def test_a_layer_is_its_whole_sums_in_the_order_that_the_docs_give(planned):
    x = normal(50, 24)
    reference, made = simulated(planned, nn.Sequential(nn.Linear(24, 10)), x)
    (layer,) = integer_layers(reference)
    step, zero, _ = astuple(layer.static_input)
    factor = (step * layer.weight.scale[:, 0].double()).float()
    bias = reference.get_parameter("0.bias").double()
    bias -= zero * factor.double() * layer.weight.around_zero().sum(1)
    assert torch.equal(made(x), whole_sums(layer, x).float() * factor + bias.float())


@pytest.mark.parametrize("layer", [nn.Linear(4000, 3), nn.Conv2d(4000, 3, 1)], ids=str)
def test_sums_that_float32_does_not_hold_are_taken_in_slices(planned, layer):
    """4000 products of up to 127 times 255, all of one sign: beyond 2^24."""
    with torch.no_grad():
        layer.weight.uniform_(0.5, 1, generator=torch.Generator().manual_seed(1))
    shape = (4, 4000) if isinstance(layer, nn.Linear) else (4, 4000, 2, 2)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(2)) + 5
    act = slot(8, False, True, PerTensor())
    reference, made = simulated(planned, nn.Sequential(layer), x, act=act)
    (found,) = integer_layers(reference)
    sums = whole_sums(found, x)
    assert sums.amax() > 1 << 24
    assert not torch.equal(sums.float().long(), sums)
    bias = reference.get_parameter("0.bias").view(-1, *[1] * (x.dim() - 2))
    factor = (found.static_input.scale * found.weight.scale[:, 0].double()).float()
    assert torch.equal(made(x), sums.float() * factor.view(bias.shape) + bias)


def of_codes(*rows, groups=1):
    conv = ConvShape((1, 1), (0, 0), (1, 1), groups)
    codes = torch.tensor(rows)[..., None, None]
    return Product(codes, torch.ones(len(rows)), conv if groups > 1 else None)


def test_slices_are_as_many_as_the_signs_of_codes_ask_for():
    """Partial sums lie between that of all negative products and that of all positive ones."""
    half = 1 << 23
    assert slices_of(of_codes([half, -half] * 2), 1, 0) == 1
    assert slices_of(of_codes([half, -half] * 2), 1, 1) == 1
    assert slices_of(of_codes([half, half, half]), 1, 0) == 2
    assert slices_of(of_codes([half, -half, half, -half, half, -half]), 2, 1) == 3
    assert slices_of(of_codes([half, half, half], groups=2), 1, 0) is None


def integer_layers(reference):
    found = (layer_of(reference, node) for node in reference.graph.nodes)
    return [layer for layer in found if not isinstance(layer, str)]


def whole_sums(layer, x):
    """int64."""
    step, zero, top = astuple(layer.static_input)
    codes = (x * (torch.ones(()) / step) + zero).round().clamp(0, top).long()
    weight = layer.weight.around_zero().long()
    if layer.conv is None:
        return codes @ weight.t()
    return torch.einsum("nchw,oc->nohw", codes, weight.flatten(1))


def test_layers_of_one_value_share_its_codes_and_tied_layers_their_weight(planned):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(24, 24), nn.Linear(24, 24)
            self.two.weight = self.one.weight

        def forward(self, x):
            return self.one(x) + self.two(x)

    x = normal(5, 24)
    reference, made = simulated(planned, Tied(), x)
    assert (
        targets(made).count(dequantize_weight) == targets(reference).count(dequantize_weight) == 1
    )
    assert fake_quantize not in targets(made)
    assert targets(made).count(exact_linear) == 2
    torch.testing.assert_close(made(x), reference(x), rtol=2e-5, atol=2e-5)


class Parameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(normal(24, 10))

    def forward(self, x):
        return x @ self.weight


CASES = [
    (nn.Linear(24, 10), W8, A8, exact_linear),
    (nn.Linear(24, 10, bias=False), W8Z, A8, exact_linear),
    (nn.Linear(24, 10), W8Z, PER_TOKEN, exact_dynamic_linear),
    (nn.Conv2d(24, 8, (3, 5), padding="same"), W8, A8, exact_conv2d),
    (nn.Linear(24, 10), slot(4, True, True, PerTensor()), A8, exact_linear),
    (nn.Linear(24, 10), slot(3, False, False, PerTensor()), PER_TOKEN, exact_dynamic_linear),
    (Parameter(), W8, A8, exact_linear),
    (nn.Conv2d(24, 8, 3, padding=2, dilation=2, groups=2), W8Z, A8, exact_conv2d),
    (nn.Conv2d(24, 8, 1, bias=False), slot(2, True, True, PerTensor()), A8, exact_conv2d),
]


@pytest.mark.parametrize(("net", "weight", "act", "product"), CASES)
def test_every_form_equals_the_reference_but_for_the_order_of_its_sums(
    planned, net, weight, act, product
):
    x = normal(3, 24, 7, 9) if isinstance(net, nn.Conv2d) else normal(3, 7, 24)
    reference, made = simulated(planned, net, x, weight=weight, act=act)
    assert product in targets(made)
    torch.testing.assert_close(made(x), reference(x), rtol=2e-5, atol=2e-5)
    if not isinstance(net, nn.Conv2d):
        assert made(x[:0]).shape == reference(x[:0]).shape


LEFT = [
    (nn.Linear(24, 10), slot(4, True, True, PerGroup(size=8)), A8),
    (nn.Conv2d(24, 8, 3), W8, slot(8, False, False, PerTensor(), dynamic=True)),
    (nn.Conv2d(24, 8, 2, padding="same"), W8, A8),
    (nn.Linear(24, 10), W8, None),
]


@pytest.mark.parametrize(("net", "weight", "act"), LEFT)
def test_other_layers_stay_what_they_are(planned, net, weight, act):
    x = normal(3, 24, 7, 9) if isinstance(net, nn.Conv2d) else normal(3, 24)
    reference, made = simulated(planned, net, x, weight=weight, act=act)
    assert targets(made) == targets(reference)
    assert torch.equal(made(x), reference(x))


def test_what_is_no_number_stays_none(planned):
    x = normal(3, 24)
    _, made = simulated(planned, nn.Linear(24, 10), x)
    x[1, 5] = torch.nan
    assert made(x).isnan().all(1).tolist() == [False, True, False]


def test_the_reference_stays_as_it_is_and_packed_codes_too(planned):
    x = normal(5, 24)
    reference, made = simulated(planned, nn.Sequential(nn.Linear(24, 16), nn.GELU()), x)
    assert fake_quantize in targets(reference)
    assert quantize_to_floats in targets(made)
    packed = {id(tensor) for tensor in reference.buffers() if tensor.dtype == torch.uint8}
    assert packed & {id(tensor) for tensor in made.buffers()}
    assert not any(tensor.shape == (16, 24) for tensor in made.buffers())


def test_a_gain_is_in_factor_and_bias(planned):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.gain = nn.Linear(24, 10), nn.Parameter(normal(10))

        def forward(self, x):
            return self.layer(x) * self.gain

    x = normal(5, 24)
    reference, made = simulated(planned, Scaled(), x)
    assert [node.name for node in reference.graph.nodes if "mul" in node.name] == ["mul"]
    assert not [node.name for node in made.graph.nodes if "mul" in node.name]
    torch.testing.assert_close(made(x), reference(x), rtol=2e-5, atol=2e-5)


class Written(nn.Module):
    """Two layers of one value, in between which somebody writes to it, or to something else."""

    def __init__(self, write):
        super().__init__()
        self.one, self.two, self.write = nn.Linear(24, 24), nn.Linear(24, 24), write

    def forward(self, x):
        base = torch.relu(x)
        h = base[:, :24]
        y = self.one(h)
        self.write(base, h, y)
        return y + self.two(h)


WRITES = [
    (lambda base, h, y: torch.max(y.view(5, 1, 24), 1, out=(h, h.long())), False),
    (lambda base, h, y: h.add_(0.3), False),
    (lambda base, h, y: h.view(5, 4, 6).add_(0.3), False),
    (lambda base, h, y: base.mul_(2), False),
    (lambda base, h, y: h.unbind(1)[3].add_(0.3), False),
    (lambda base, h, y: y.relu_(), True),
    (lambda base, h, y: (h + 1).add_(y), True),
]


@pytest.mark.parametrize(("write", "is_shared"), WRITES)
def test_codes_are_shared_unless_their_value_may_be_written_to(planned, write, is_shared):
    x = normal(5, 24)
    reference, made = simulated(planned, Written(write), x)
    assert targets(made).count(quantize_to_floats) == (1 if is_shared else 2)
    with torch.no_grad():
        torch.testing.assert_close(made(x), reference(x), rtol=2e-5, atol=2e-5)


def test_the_sum_of_more_inputs_than_float32_counts_is_exact():
    """What a weight of nine bits around its zero point takes beside its own sums."""
    count = 100_001
    codes = torch.full((3, count), 255.0)
    codes[1, ::3] = 254
    codes[2, :7] = 0
    weight, one = torch.zeros(1, count), torch.ones(1)
    found = exact_linear(codes, 0, weight, torch.ones(2), None, one, 1)
    assert torch.equal(found[:, 0], codes.long().sum(1).float())


class Turned(nn.Module):
    def forward(self, x):
        h = torch.relu(x)
        torch.einsum("ij->ji", h).add_(0.3)
        return h


def test_a_transposition_written_as_a_product_is_a_view():
    module = trace(Turned(), (normal(5, 24),), {}).module
    value, last = (
        next(n for n in module.graph.nodes if n.name == name) for name in ("relu", "output")
    )
    assert may_be_written(module, value, value, last)
    assert not may_be_written(module, value, value, value.next.next)

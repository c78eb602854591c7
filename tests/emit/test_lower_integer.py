import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qcompile.capture.node_meta import facts, set_facts
from qcompile.capture.operands import site_kind
from qcompile.capture.trace import trace
from qcompile.compat.cpu_features import multiplies_bytes
from qcompile.compat.onednn_operations import onednn
from qcompile.emit.lower import integer, limits
from qcompile.emit.lower.difference import relative
from qcompile.emit.lower.exact import simulation
from qcompile.emit.lower.kernels import dynamic_linear, more_columns_than_one, packed_for
from qcompile.emit.lower.lower import lower
from qcompile.emit.materialize import materialize
from qcompile.policy.number_format import SumFormat, named
from qcompile.policy.scheme import Clip, PerChannel, PerGroup, PerTensor, PerToken
from qcompile.policy.site import Kind
from tests.emit.lowering import (
    A8,
    W8,
    X86,
    calls,
    close,
    lowered,
    same_bits,
    skip_what_is_miscounted_here,
    slot,
)
from tests.emit.planning import plan_of, site_of, tensors_of_plan

pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")


class LinearSum(nn.Module):
    """A sum that makes memory of its own, and one that is written over it."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x) + x
        return x


CONVOLUTIONS = [
    nn.Conv2d(4, 6, 3),
    nn.Conv2d(4, 6, 3, padding=1, bias=False),
    nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(2, 0), dilation=(1, 2)),
    nn.Conv2d(4, 8, 3, padding=1, groups=4),
    nn.Conv2d(4, 6, 1, padding="valid"),
]


@pytest.mark.parametrize("conv", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize(
    "act", [A8, slot(8, True, True, PerTensor()), slot(4, True, True, PerTensor())]
)
def test_a_convolution_equals_the_reference(planned, conv, act):
    """The padding stands for real zeros, whose code is the zero point."""
    x = torch.randn(3, 4, 9, 12, generator=torch.Generator().manual_seed(0))
    reference, made = lowered(planned, nn.Sequential(conv), x[:2], act=act)
    close(reference, made, x)
    skip_what_is_miscounted_here(made)
    assert made.report.in_float == ()
    assert onednn().conv2d in calls(made)
    assert torch.ops.aten.conv2d not in calls(made)
    assert F.conv2d not in calls(made)


@pytest.mark.parametrize(
    ("padding", "because"),
    [
        ({"padding": "same"}, "its padding is not the same on both sides"),
        ({"padding": 1, "padding_mode": "reflect"}, "its padding is not of zeros"),
    ],
)
def test_other_padding_stays_in_float_and_is_listed(planned, padding, because):
    x = torch.randn(2, 4, 9, 9)
    reference, made = lowered(planned, nn.Sequential(nn.Conv2d(4, 6, 2, **padding)), x)
    assert torch.equal(made.module(x), reference(x))
    assert [layer.because for layer in made.report.in_float] == [because]


def test_one_image_without_a_batch_is_simulated_and_listed(planned):
    """oneDNN fails on it when the model runs."""
    x = torch.randn(4, 9, 12, generator=torch.Generator().manual_seed(0))
    reference, made = lowered(planned, nn.Sequential(nn.Conv2d(4, 6, 3, padding=1)), x)
    close(reference, made, x)
    (layer,) = made.report.in_float
    assert layer.because == "it takes one image, without an axis for a batch"


WEIGHTS = [
    slot(8, True, True, PerTensor()),
    slot(4, True, True, PerChannel()),
    slot(7, False, False, PerChannel()),
    slot(2, True, False, PerTensor()),
]
ACTS = [
    A8,
    slot(8, True, False, PerTensor()),
    slot(5, False, False, PerTensor()),
    slot(8, False, False, PerTensor(), dynamic=True),
    slot(8, True, True, PerTensor(), dynamic=True),
    slot(8, True, True, PerToken(), dynamic=True),
    slot(6, False, False, PerToken(), dynamic=True),
    replace(slot(4, True, False, PerToken(), dynamic=True), observer=Clip(share=0.8)),
]


@pytest.mark.parametrize("weight", WEIGHTS, ids=lambda s: f"{s.format}-{s.granularity}")
@pytest.mark.parametrize("act", ACTS, ids=lambda s: f"{s.format}-{s.granularity}-{s.dynamic}")
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_equals_the_reference(planned, weight, act, bias):
    net = nn.Sequential(nn.Linear(24, 10, bias=bias))
    x = torch.randn(5, 3, 24, generator=torch.Generator().manual_seed(0))
    reference, made = lowered(planned, net, x[:2], weight=weight, act=act)
    close(reference, made, x)
    assert made.report.in_float == ()
    assert (dynamic_linear in calls(made)) == act.dynamic


def test_a_batch_without_rows_gives_no_rows(planned):
    for act in (A8, ACTS[3]):
        _, made = lowered(planned, nn.Sequential(nn.Linear(8, 4)), torch.randn(2, 8), act=act)
        assert made.module(torch.zeros(0, 8)).shape == (0, 4)


NO_ROWS = [((0, 5, 24), (2, 5, 24)), ((2, 0, 24), (2, 5, 24)), ((2, 3, 0, 24), (2, 3, 5, 24))]
with torch.random.fork_rng(devices=[]):
    torch.manual_seed(2)  # sums lie 5e-4 of a step and more from where a code flips: order is 1e-5
    CHAINS = [nn.Sequential(nn.Linear(24, 10))]
    torch.manual_seed(2)
    CHAINS += [nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 8))]
    torch.manual_seed(2)
    CHAINS += [LinearSum(24)]


@pytest.mark.parametrize(("shape", "example"), NO_ROWS, ids=str)
@pytest.mark.parametrize("net", CHAINS, ids=str)
@pytest.mark.parametrize("act", [A8, slot(5, False, False, PerTensor())], ids=str)
@pytest.mark.parametrize("weight", [W8, slot(8, False, False, PerChannel())], ids=str)
def test_a_batch_without_rows_keeps_its_other_axes(planned, shape, example, net, act, weight):
    """oneDNN gives ``[0, out]`` for any of them (torch 2.13)."""
    x = torch.randn(example, generator=torch.Generator().manual_seed(0))
    reference, made = lowered(planned, net, x, weight=weight, act=act)
    assert made.module(torch.zeros(shape)).shape == reference(torch.zeros(shape)).shape
    close(reference, made, x)


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(24, 10))

    def forward(self, x):
        return x @ self.weight


def test_a_product_with_a_parameter_is_a_linear_layer(planned):
    x = torch.randn(5, 24)
    reference, made = lowered(planned, Product(), x[:2])
    close(reference, made, x)
    assert onednn().linear in calls(made)


@pytest.mark.parametrize("count", [1, 8, 32])
@pytest.mark.parametrize(
    ("conv", "size"), [(nn.Conv2d(512, 512, 3, padding=1), 7), (nn.Conv2d(1152, 192, 1), 3)]
)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_weight_is_packed_for_the_size_that_a_stored_graph_knows(
    planned, capfd, count, conv, size, threads
):
    """Packed for any size, a weight 3x3 for images 7x7 is reordered in every call (torch 2.13).

    With AMX oneDNN wants it in another order for more images than one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        done = operations_of_a_call(planned, capfd, count, conv, size)
    finally:
        torch.set_num_threads(before)
    assert done == ["convolution"]


@pytest.mark.parametrize(
    ("orders", "least", "chosen"),
    [("aaaa", (1,), [1, 1, 1]), ("abbb", (1, 2), [1, 2, 2]), ("aabc", (1, 8, 16), [1, 1, 16])],
)
def test_a_weight_is_kept_once_for_each_order(monkeypatch, orders, least, chosen):
    of = dict(zip((1, 2, 8, 16), orders, strict=True))
    monkeypatch.setattr(integer, "order_of", lambda packed: of[packed.item()])
    made = integer.in_all_orders(torch.tensor)
    assert tuple(made) == least
    for count, expected in zip((1, 4, 40), chosen, strict=True):
        assert packed_for(torch.zeros(count, 3), tuple(made), *made.values()).item() == expected


def operations_of_a_call(planned, capfd, count, conv, size):
    net, x = nn.Sequential(conv), torch.randn(2, conv.in_channels, size, size)
    module = trace(net.eval(), (x,), {}).module
    for node in module.graph.nodes:  # an artifact keeps no example
        set_facts(node, replace(facts(node), example=None))
    plan, tensors = planned(module, W8, A8)
    made = lower(materialize(module, plan.core, tensors), plan.core, X86)
    images = torch.randn(count, conv.in_channels, size, size)
    made.module(images)
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        made.module(images)
    done = [line.split(",") for line in capfd.readouterr().out.splitlines() if ",exec," in line]
    return [words[5] for words in done]


# ---- what stays in float ------------------------------------------------------------------------

WRONG_WITH_AMX = [
    (nn.Conv2d(6, 128, 3, padding=1, groups=2), (2, 6, 9, 9), "miscounts_zero_points_in_groups"),
    (nn.Conv2d(24, 48, 3, 2, 1, groups=2), (2, 24, 14, 14), "miscounts_zero_points_in_groups"),
    (nn.Conv2d(3, 16, (1, 3), (1, 2)), (2, 3, 9, 4), "miscounts_one_column"),
    (nn.Conv2d(16, 16, 3, (1, 3), padding=1), (2, 16, 9, 2), "miscounts_one_column"),
]
ONE_CHANNEL = [
    (nn.Conv2d(1, 16, (1, 3), (1, 2)), (9, 4)),
    (nn.Conv2d(1, 16, 5, (1, 3), (4, 2)), (5, 3)),
]


@pytest.mark.parametrize(("conv", "size"), ONE_CHANNEL, ids=str)
@pytest.mark.parametrize("count", [1, 5])
def test_one_column_of_images_with_one_channel_is_right_on_every_processor(
    planned, conv, size, count
):
    """torch 2.13 gets it wrong in float32, too, in a layout that it takes for channels last."""
    net = nn.Sequential(nn.Conv2d(3, 1, 1), conv)
    x = torch.randn(5, 3, *size, generator=torch.Generator().manual_seed(0))
    reference, made = lowered(planned, net, x[:2])
    found = made.module(x[:count])
    assert torch.equal(found, simulation(reference)(x[:count]))
    exact = copy.deepcopy(net).double()(x[:count].double())
    assert relative(found, exact.float()) < 0.15
    (layer,) = made.report.in_float
    assert layer.because.startswith("on this processor oneDNN miscounts strided results")


def test_a_window_that_straddles_a_small_image_sees_padding_alone(planned):
    conv = nn.Conv2d(4, 17, (3, 2), 1, (2, 1), 2)
    x = torch.randn(2, 4, 7, 1, generator=torch.Generator().manual_seed(0))
    reference, made = lowered(planned, nn.Sequential(conv), x)
    assert [layer.because for layer in made.report.in_float] == [
        "some of its windows lie in the padding"
    ]
    assert same_bits(reference, made, x)
    x = torch.randn(2, 4, 7, 3, generator=torch.Generator().manual_seed(0))
    reference, made = lowered(planned, nn.Sequential(conv), x)
    assert made.report.in_float == ()
    assert same_bits(reference, made, x)


@pytest.mark.parametrize(("conv", "shape", "defect"), WRONG_WITH_AMX, ids=str)
def test_what_this_processor_miscounts_stays_in_float_and_is_listed(
    planned, monkeypatch, conv, shape, defect
):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    reference, made = lowered(planned, nn.Sequential(conv), x)
    assert same_bits(reference, made, x)
    assert len(made.report.in_float) == getattr(limits, defect)()
    monkeypatch.setattr(limits, defect, lambda: True)
    reference, made = lowered(planned, nn.Sequential(conv), x)
    assert same_bits(reference, made, x)
    (layer,) = made.report.in_float
    assert layer.because.startswith("on this processor oneDNN miscounts")


NOT_WRONG = [
    (nn.Conv2d(6, 128, 3, groups=2), (2, 6, 9, 9), A8),
    (nn.Conv2d(6, 128, 3, padding=1, groups=2), (2, 6, 9, 9), slot(8, False, True, PerTensor())),
    (nn.Conv2d(6, 6, 3, padding=1, groups=6), (2, 6, 9, 9), A8),
    (nn.Conv2d(3, 16, 3, 2, 1), (2, 3, 2, 2), A8),
    (nn.Conv2d(3, 16, (3, 1), 2), (2, 3, 9, 2), A8),
]


@pytest.mark.parametrize(("conv", "shape", "act"), NOT_WRONG, ids=str)
def test_their_neighbours_have_a_kernel_on_every_processor(planned, conv, shape, act):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    x = x if act.symmetric else x - 0.5
    reference, made = lowered(planned, nn.Sequential(conv), x, act=act)
    assert made.report.in_float == ()
    assert same_bits(reference, made, x)


def test_images_of_any_width_are_looked_at_where_one_column_is_wrong(planned, monkeypatch):
    monkeypatch.setattr(limits, "miscounts_one_column", lambda: True)
    net, x = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1)).eval(), torch.randn(2, 3, 9, 8)
    module = trace(net, (x,), {}, dynamic={"input": (0, 2, 3)}).module
    plan, tensors = planned(module, W8, A8)
    made = lower(materialize(module, plan.core, tensors), plan.core, X86)
    assert more_columns_than_one in calls(made)
    assert made.module(x).shape == (2, 16, 5, 4)
    assert made.module(x[:, :, :2, :2]).shape == (2, 16, 1, 1)
    with pytest.raises(ValueError, match="one pixel wide, of images 9x2"):
        made.module(x[:, :, :, :2])


@pytest.mark.parametrize("kernel", [1, (3, 1)])
def test_a_kernel_of_one_column_takes_images_of_any_width(planned, monkeypatch, kernel):
    """Every ResNet has 1x1 convolutions with a stride."""
    monkeypatch.setattr(limits, "miscounts_one_column", lambda: True)
    net, x = nn.Sequential(nn.Conv2d(3, 16, kernel, 2)).eval(), torch.randn(2, 3, 9, 8)
    module = trace(net, (x,), {}, dynamic={"input": (0, 2, 3)}).module
    plan, tensors = planned(module, W8, A8)
    reference = materialize(module, plan.core, tensors)
    made = lower(reference, plan.core, X86)
    assert same_bits(reference, made, x[:, :, :, :2])


def test_every_planned_layer_is_in_the_report_and_float_layers_equal_the_reference(
    planned, attention_graph, attention_batch, specs
):
    plan, tensors = planned(attention_graph, specs["w4"], specs["a8"])
    reference = materialize(attention_graph, plan.core, tensors)
    made = lower(reference, plan.core, X86)
    assert [layer.key for layer in made.report.layers] == [
        s.key for s in plan.core.sites if s.tensors
    ]
    reasons = {layer.key: layer.because for layer in made.report.in_float}
    assert set(reasons) >= {"embed", "matmul", "matmul_1"}
    assert all(reasons.values())
    found, expected = made.module(*attention_batch), reference(*attention_batch)
    assert relative(found["logits"], expected["logits"]) < 5e-3


@pytest.mark.parametrize("name", ["int8", "nf4", "codebook4", "mxfp4", "power4 + nf4"])
def test_a_weight_in_float_is_taken_off_its_codes_once(planned, name):
    terms = tuple(map(named, name.split(" + ")))
    spec = replace(W8, format=terms[0] if len(terms) == 1 else SumFormat(terms))
    if name == "mxfp4":
        spec = replace(spec, granularity=PerGroup(size=32))
    x = torch.randn(5, 64)
    net = nn.Sequential(nn.Linear(64, 8))
    reference, made = lowered(planned, net, x, weight=spec, act=None)
    assert torch.equal(made.module(x), reference(x))
    assert calls(made) == [F.linear]


def test_what_a_kernel_reads_belongs_to_no_state_dict(planned):
    net = nn.Sequential(nn.Linear(24, 8), nn.LayerNorm(8))
    _, made = lowered(planned, net, torch.randn(5, 24))
    assert set(made.module.state_dict()) == {"1.weight", "1.bias"}


PADDED = nn.Conv2d(4, 6, 3, padding=1)
ZERO_POINTS = [
    (nn.Linear(24, 8), (7, 24), True),
    (nn.Linear(24, 8, bias=False), (7, 24), True),
    (nn.Conv2d(4, 6, 3, stride=2), (3, 4, 9, 9), True),
    (nn.Conv2d(4, 8, 1, groups=4, bias=False), (3, 4, 9, 9), True),
    (PADDED, (3, 4, 9, 9), False),
]


@pytest.mark.parametrize(("layer", "shape", "is_folded"), ZERO_POINTS, ids=str)
def test_a_zero_point_goes_into_the_bias_unless_images_are_padded_with_it(
    planned, layer, shape, is_folded
):
    x = 3 + torch.randn(shape, generator=torch.Generator().manual_seed(3))
    reference, made = lowered(planned, nn.Sequential(layer), x[:2])
    close(reference, made, x)
    products = (onednn().linear, onednn().conv2d)
    nodes = [node for node in made.module.graph.nodes if node.target in products]
    assert [node.args[2] == 0 for node in nodes] == [is_folded]


def test_a_static_layer_reads_a_dynamic_one_in_front_of_it():
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 16)).eval()
    module = trace(net, (x,), {}).module
    acts = (replace(A8, dynamic=True), A8)
    nodes = [node for node in module.graph.nodes if site_kind(node, module) is Kind.LINEAR]
    sites = [site_of(module, node, W8, act) for node, act in zip(nodes, acts, strict=True)]
    plan = plan_of(module, sites)
    reference = materialize(module, plan.core, tensors_of_plan(module, plan.core))
    made = lower(reference, plan.core, X86)
    assert same_bits(reference, made, x)

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qcompile.capture.trace import trace
from qcompile.compat.cpu_features import multiplies_bytes
from qcompile.compat.onednn_operations import onednn
from qcompile.emit.lower.agreement import compare
from qcompile.emit.lower.difference import relative, worst
from qcompile.emit.lower.kernels import dynamic_linear, quantize
from qcompile.emit.lower.lower import lower
from qcompile.emit.lower.lowering import Lowering
from qcompile.emit.lower.replay import Recorded, record
from qcompile.emit.materialize import materialize
from qcompile.policy.scheme import IntFormat, PerChannel, PerTensor, PerToken, QuantSlot
from qcompile.targets.catalogue import find_target

pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")

X86 = find_target("x86-int8")


def slot(bits, signed, symmetric, granularity, dynamic=False):
    number = IntFormat(bits=bits, signed=signed)
    return QuantSlot(format=number, symmetric=symmetric, granularity=granularity, dynamic=dynamic)


W8 = slot(8, True, True, PerChannel())
A8 = slot(8, False, False, PerTensor())


def lowered(planned, net, *example, weight=W8, act=A8, only=None, target=X86):
    """The reference of ``net`` with random weights on a grid, and what it becomes on a target."""
    module = trace(net.eval(), example, {}).module
    plan, tensors = planned(module, weight, act, only)
    reference = materialize(module, plan.core, tensors)
    made = lower(reference, plan.core, target)
    assert isinstance(made, Lowering), made
    return reference, made


def close(reference, made, *inputs):
    """Kernels and reference differ by the order of float sums alone: no code may flip."""
    before = [value.clone() for value in inputs]
    found, expected = made.module(*inputs), reference(*inputs)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)
    assert all(torch.equal(one, other) for one, other in zip(inputs, before, strict=True))


def calls(made):
    return [node.target for node in made.module.graph.nodes if node.op == "call_function"]


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


# ---- what a kernel takes over -------------------------------------------------------------------

AFTER_CONV = [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardswish(), nn.SiLU()]
AFTER_LINEAR = [nn.ReLU(), nn.GELU(), nn.GELU("tanh"), nn.Hardtanh(-0.5, 0.7), nn.Tanh()]


@pytest.mark.parametrize("activation", AFTER_CONV, ids=str)
def test_an_activation_behind_a_convolution_is_taken_over(planned, activation):
    net = nn.Sequential(nn.Conv2d(4, 6, 3), activation, nn.Flatten(2))
    x = torch.randn(3, 4, 9, 12)
    reference, made = lowered(planned, net, x[:2])
    close(reference, made, x)
    assert [len(layer.fused) for layer in made.report.layers] == [1]
    assert not any(
        node.op == "call_module" for node in made.module.graph.nodes if node.target != "2"
    )


@pytest.mark.parametrize("activation", AFTER_LINEAR, ids=str)
def test_an_activation_behind_a_linear_layer_is_taken_over(planned, activation):
    x = torch.randn(7, 24)
    reference, made = lowered(planned, nn.Sequential(nn.Linear(24, 10), activation), x[:2])
    close(reference, made, x)
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
    assert relative(made.module(x), reference(x)) < 5e-3


def test_codes_of_fewer_than_8_bits_get_a_quantizer_of_their_own(planned):
    """oneDNN saturates at 255, a 4-bit grid at 15."""
    net = nn.Sequential(nn.Linear(24, 16), nn.Linear(16, 8))
    x = 4 * torch.randn(7, 24)
    reference, made = lowered(planned, net, x[:2], act=slot(4, False, False, PerTensor()))
    assert calls(made).count(quantize) == 2
    assert relative(made.module(x), reference(x)) < 5e-3


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
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(24, 24)

    def forward(self, x):
        return x + self.fc(x)


def test_a_linear_sum_with_the_models_input_leaves_it_alone(planned):
    x = torch.randn(7, 24)
    reference, made = lowered(planned, LinearResidual(), x[:2])
    assert onednn().linear_add in calls(made)
    close(reference, made, x)


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


# ---- what stays in float ------------------------------------------------------------------------


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


def test_a_weight_in_float_is_taken_off_its_codes_once(planned):
    x = torch.randn(5, 24)
    reference, made = lowered(planned, nn.Sequential(nn.Linear(24, 8)), x, act=None)
    assert torch.equal(made.module(x), reference(x))
    assert [node.target for node in made.module.graph.nodes if node.op == "call_function"] == [
        F.linear
    ]


def test_packed_weights_belong_to_no_state_dict(planned):
    _, made = lowered(planned, nn.Sequential(nn.Linear(24, 8)), torch.randn(5, 24))
    assert set(made.module.state_dict()) == {"0.bias"}


def test_the_check_sees_a_wrong_result_and_a_changed_input(planned):
    x = torch.randn(5, 24)
    reference, made = lowered(planned, nn.Sequential(nn.Linear(24, 8)), x)
    recorded = record(reference, made.module, [x])
    assert compare(recorded, made.module, [x], X86).problems == ()
    wrong = made.module.get_buffer("_0_scale")
    wrong.mul_(1.1)
    (problem,) = compare(recorded, made.module, [x], X86).problems
    assert "at `_0`, more than 0.005" in problem.message

    class Overwrites(nn.Module):
        def forward(self, x):
            y = x + 1
            x.add_(1)
            return y

    net = trace(Overwrites(), (x,), {}).module
    (problem,) = compare(Recorded((x + 1,)), net, [x], X86).problems
    assert (problem.code.number, "overwrite the input `x`" in problem.message) == ("QR930", True)


def test_layers_are_judged_on_the_values_of_the_reference(planned):
    """A wrong layer is named, though all behind it are wrong then too; the first stays right."""
    x = torch.randn(5, 24)
    net = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24), nn.Linear(24, 8))
    reference, made = lowered(planned, net, x)
    recorded = record(reference, made.module, [x])
    made.module.get_buffer("_2_scale").mul_(3)
    found = compare(recorded, made.module, [x], X86)
    (problem,) = found.problems
    assert "at `fake_quantize_2`" in problem.message  # codes of the second layer, for the third
    made.module.get_buffer("_2_scale").div_(3)
    found = compare(recorded, made.module, [x], X86)
    assert found.problems == ()
    assert found.layer_difference < 2e-3


def test_one_value_that_is_no_number_is_the_worst_pair():
    one, broken = torch.tensor([1.0]), torch.tensor([float("nan")])
    assert worst([one, broken], [one, one]) != worst([one, broken], [one, one])
    assert worst([one * 3, one], [one, one]) == 2.0
    assert worst([], []) == 0.0


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([1.0, 3.0], [1.0, 2.0], (1 / 5) ** 0.5),
        ([float("-inf"), 2.0], [float("-inf"), 2.0], 0.0),
        ([float("nan"), 2.0], [1.0, 2.0], float("nan")),
        ([1.0], [0.0], float("inf")),
        ([1.0, 2.0], [1.0], float("inf")),
    ],
)
def test_the_difference_is_relative_to_the_output(ours, theirs, expected):
    found = relative(torch.tensor(ours), torch.tensor(theirs))
    assert found == pytest.approx(expected, nan_ok=True)

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qcompile.capture.trace import trace
from qcompile.compat.cpu_features import has_avx2, has_tiles, multiplies_bf16, multiplies_bytes
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.emit.lower import kernels as kernels_module
from qcompile.emit.lower import weight_only
from qcompile.emit.lower.difference import relative
from qcompile.emit.lower.exact import simulation
from qcompile.emit.lower.kernels import dynamic_linear, int4_linear, int8_linear
from qcompile.emit.lower.layer import layer_of
from qcompile.emit.lower.lower import lower
from qcompile.emit.lower.lowering import Lowering
from qcompile.emit.lower.rewriting import Rewriting
from qcompile.emit.materialize import materialize
from qcompile.emit.native import multiply
from qcompile.emit.native.multiply import missing, packed_linear
from qcompile.policy.scheme import (
    IntFormat,
    PerChannel,
    PerGroup,
    PerTensor,
    PerToken,
    QuantSlot,
    SignedMse,
)
from qcompile.targets.catalogue import find_target
from qcompile.targets.target import Target

pytestmark = pytest.mark.skipif(not has_avx2(), reason="this processor has no AVX2")

FEW = find_target("cpu-int8-weight-only").few_rows
FEW_INT4 = find_target("cpu-int4").few_rows
BF16 = 6e-3
"""Rows and scales are rounded to 8 bits of mantissa, the result once more."""
MANY = BF16 if multiplies_bf16() else 1e-5
CODES = 5e-5
"""Rows are rounded to 16 bits of the largest number of each group."""


@pytest.fixture(params=[True, False], ids=["ours", "torch"])
def is_ours(request, monkeypatch):
    """Both forms of the kernels, where this machine has both."""
    if request.param and missing():
        pytest.skip(missing())
    if not request.param:
        monkeypatch.setattr(weight_only, "missing", lambda: "this test wants the other one")
    return request.param


def slot(bits, signed, symmetric, granularity):
    return QuantSlot(
        format=IntFormat(bits=bits, signed=signed), symmetric=symmetric, granularity=granularity
    )


def lowered(planned, net, x, weight, target, act=None):
    module = trace(net.eval(), (x,), {}).module
    plan, tensors = planned(module, weight, act)
    reference = materialize(module, plan.core, tensors)
    return reference, lower(reference, plan.core, find_target(target))


def kernels(made):
    return [n.target for n in made.module.graph.nodes if n.op == "call_function"]


INT4 = [
    slot(4, True, True, PerGroup(size=32)),
    replace(slot(4, True, True, PerGroup(size=32)), observer=SignedMse()),
    slot(4, False, False, PerGroup(size=64)),
    slot(3, True, True, PerGroup(size=128)),
    slot(2, False, False, PerChannel()),
    slot(4, True, True, PerTensor()),
]


@pytest.mark.parametrize("weight", INT4, ids=lambda s: f"{s.format}-{s.granularity}")
@pytest.mark.parametrize("bias", [True, False])
def test_4_bit_weights_equal_the_reference_for_few_and_for_many_rows(
    planned, weight, bias, is_ours
):
    net = nn.Sequential(nn.Linear(384, 48, bias=bias))
    x = torch.randn(2, FEW_INT4, 384, generator=torch.Generator().manual_seed(0))
    reference, made = lowered(planned, net, x, weight, "cpu-int4")
    assert kernels(made) == [packed_linear if is_ours else int4_linear]
    few = made.module(x[:, :5])
    assert 0 < relative(few, reference(x[:, :5])) < (CODES if is_ours else BF16)
    assert relative(made.module(x), reference(x)) < (many_of_ours() if is_ours else MANY)
    assert few.dtype == torch.float32


def many_of_ours():
    return BF16 if has_tiles() else CODES


INT8 = [
    slot(8, True, True, PerChannel()),
    slot(8, True, True, PerTensor()),
    slot(5, False, False, PerChannel()),
]


@pytest.mark.parametrize("weight", INT8, ids=lambda s: f"{s.format}-{s.granularity}")
@pytest.mark.parametrize("outputs", [5, 48])
@pytest.mark.parametrize("inputs", [48, 96])
def test_8_bit_weights_equal_the_reference_for_few_and_for_many_rows(
    planned, weight, outputs, inputs, is_ours
):
    x = torch.randn(FEW + 1, inputs, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Linear(inputs, outputs))
    reference, made = lowered(planned, net, x, weight, "cpu-int8-weight-only")
    is_ours = is_ours and outputs == 48 and inputs == 96
    assert kernels(made) == [packed_linear if is_ours else int8_linear]
    few = relative(made.module(x[:FEW]), reference(x[:FEW]))
    assert 0 < few < (CODES if is_ours else BF16)
    assert relative(made.module(x), reference(x)) < (many_of_ours() if is_ours else MANY)
    (layer,) = made.report.layers
    assert layer.form == "compiled here" if is_ours else layer.form.startswith("torch's own: ")


@pytest.mark.parametrize(("has_bf16", "limit"), [(True, BF16), (False, 1e-5)])
@pytest.mark.parametrize(
    ("weight", "target"), [(INT4[1], "cpu-int4"), (INT8[0], "cpu-int8-weight-only")]
)
def test_many_rows_are_multiplied_in_what_the_processor_has(
    planned, monkeypatch, has_bf16, limit, weight, target
):
    monkeypatch.setattr(weight_only, "missing", lambda: "no")
    monkeypatch.setattr(weight_only, "multiplies_bf16", lambda: has_bf16)
    x = torch.randn(FEW_INT4 + 1, 384, generator=torch.Generator().manual_seed(0))
    reference, made = lowered(planned, nn.Sequential(nn.Linear(384, 48)), x, weight, target)
    (product,) = (node for node in made.module.graph.nodes if node.op == "call_function")
    wide = torch.bfloat16 if has_bf16 else torch.float32
    assert [arg for arg in product.args if isinstance(arg, torch.dtype)] == [wide]
    difference = relative(made.module(x), reference(x))
    assert difference < limit
    assert (difference > 1e-4) == has_bf16  # it is really computed in that


def test_this_processor_is_asked_for_bf16():
    flags = Path("/proc/cpuinfo")
    if not flags.exists() or torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("this system does not list what its processor has")
    words = set(flags.read_text().split())
    assert multiplies_bf16() == bool(words & {"avx512_bf16", "amx_tile"})


@pytest.mark.parametrize(("wide", "limit"), [(torch.float32, 1e-6), (torch.bfloat16, BF16)])
@pytest.mark.parametrize("slice_", [1, 200, 1 << 19])
def test_many_rows_are_multiplied_by_slices_of_the_weight(monkeypatch, wide, limit, slice_):
    """Any cut gives the product, in the type that the machine is fast in."""
    monkeypatch.setattr(kernels_module, "SLICE", slice_)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 7, 64, generator=generator)
    codes = torch.randint(0, 16, (10, 64), generator=generator)
    scale, zero = torch.rand(10, 2, generator=generator), torch.full((10, 2), 5.0)
    weight = ((codes.view(10, 2, 32) - 5) * scale[..., None]).view(10, 64)
    bias = torch.randn(10, generator=generator)
    expected = F.linear(x.double(), weight.double(), bias.double())
    two = (codes[:, :32] | (codes[:, 32:] << 4)).t().to(torch.uint8)
    unused = torch.zeros(0)
    kept = two, scale.t()[:, None], -(zero * scale).t()[:, None]
    found = int4_linear(x, unused, 32, unused, kept, bias, 20, wide)
    assert relative(found.double(), expected) < limit
    eight = (codes - 5).to(torch.int8)
    found = int8_linear(x, eight, scale[:, 0], unused, bias, 20, wide)
    expected = F.linear(x.double(), eight * scale[:, :1].double(), bias.double())
    assert relative(found.double(), expected) < limit
    assert found.dtype == torch.float32


def test_gradients_of_earlier_layers_do_not_stop_many_rows():
    """``out=`` would: it refuses whatever carries a gradient."""
    x = torch.randn(4, 16, requires_grad=True)
    codes, scale = torch.ones(3, 16, dtype=torch.int8), torch.ones(3)
    found = int8_linear(x, codes, scale, scale, None, 1, torch.float32)
    torch.testing.assert_close(found, x.sum(1, keepdim=True).expand(4, 3))


def test_a_layer_reads_the_kernel_of_the_layer_in_front(planned, is_ours):
    net = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 16))
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    for weight, target in ((INT4[0], "cpu-int4"), (INT8[0], "cpu-int8-weight-only")):
        reference, made = lowered(planned, net, x, weight, target)
        assert relative(made.module(x), reference(x)) < 2 * BF16


@pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")
def test_a_layer_with_a_range_found_at_run_time_reads_the_kernel_in_front(planned):
    net = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 16))
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    dynamic = replace(INT8[0], granularity=PerToken(), dynamic=True)
    reference, made = lowered(planned, net, x, INT8[0], "x86-int8", act=dynamic)
    assert kernels(made) == [dynamic_linear] * 3
    assert torch.equal(made.module(x), simulation(reference)(x))
    assert relative(made.module(x), reference(x)) < 5e-3


def test_a_batch_without_rows_gives_no_rows(planned, is_ours):
    x = torch.randn(2, 64)
    for weight, target in ((INT4[0], "cpu-int4"), (INT8[0], "cpu-int8-weight-only")):
        _, made = lowered(planned, nn.Sequential(nn.Linear(64, 16)), x, weight, target)
        assert made.module(torch.zeros(0, 64)).shape == (0, 16)


@pytest.mark.parametrize("inputs", [40, 31])
def test_rows_that_the_8_bit_kernel_would_overrun_stay_in_float_whatever_a_file_says(
    planned, inputs
):
    """torch 2.13 reads past the end of rows that are no multiple of 16 long."""
    row = {"ops": ["linear"], "weight": "any", "act": "any", "outcome": "kernel"}
    target = Target.model_validate(
        {"name": "careless", "title": "", "support": [row | {"kernel": "int8_weight_only"}]}
    )
    module = trace(
        nn.Sequential(nn.Linear(inputs, 16)).eval(), (torch.randn(2, inputs),), {}
    ).module
    plan, tensors = planned(module, INT8[0], None)
    reference = materialize(module, plan.core, tensors)
    made = lower(reference, plan.core, target)
    x = torch.randn(3, inputs)
    assert torch.equal(made.module(x), reference(x))
    (layer,) = made.report.in_float
    assert "multiple of 16" in layer.because


CARELESS = ["onednn_qconv", "onednn_qlinear", "onednn_qlinear_dynamic", "int4_weight_only"]


@pytest.mark.parametrize("kernel", [*CARELESS, "int8_weight_only"])
def test_a_kernel_that_cannot_take_a_layer_is_never_given_it(planned, kernel):
    """Per-group 8-bit weights of float activations: no kernel has them, one file promises them."""
    row = {"ops": ["*"], "weight": "any", "act": "any", "outcome": "kernel", "kernel": kernel}
    target = Target.model_validate({"name": "careless", "title": "", "support": [row]})
    module = trace(nn.Sequential(nn.Linear(64, 16)).eval(), (torch.randn(2, 64),), {}).module
    plan, tensors = planned(module, slot(8, False, False, PerGroup(size=16)), None)
    reference = materialize(module, plan.core, tensors)
    made = lower(reference, plan.core, target)
    assert kernels(made) == [F.linear]
    assert len(made.report.in_float) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("name", ["cuda-int8", "cuda-fp8", "cuda-int4"])
def test_a_target_that_the_machine_cannot_run_says_what_would_work(planned, name):
    _, problems = lowered(
        planned, nn.Sequential(nn.Linear(64, 16)), torch.randn(2, 64), INT8[0], name
    )
    (problem,) = problems
    assert isinstance(problem, Diagnostic)
    assert problem.code.number == "QR541"
    assert "a CUDA device" in problem.message
    assert "simulate" in problem.help


def test_a_target_that_refuses_a_layer_is_not_loaded(planned):
    row = {"ops": ["linear"], "weight": "any", "act": "any", "outcome": "refuse", "because": "no"}
    target = Target.model_validate({"name": "strict", "title": "", "support": [row]})
    module = trace(nn.Sequential(nn.Linear(64, 16)).eval(), (torch.randn(2, 64),), {}).module
    plan, tensors = planned(module, INT8[0], None)
    (problem,) = lower(materialize(module, plan.core, tensors), plan.core, target)
    assert (problem.code.number, problem.subject) == ("QR507", "_0")


def test_the_reference_target_is_the_simulation(planned, conv_graph, conv_batch):
    plan, tensors = planned(conv_graph)
    reference = materialize(conv_graph, plan.core, tensors)
    made = lower(reference, plan.core, find_target("simulate"))
    assert isinstance(made, Lowering)
    assert made.report.in_float == ()
    assert torch.equal(made.module(*conv_batch), simulation(reference)(*conv_batch))
    assert relative(made.module(*conv_batch), reference(*conv_batch)) < 5e-3


class Biased(nn.Module):
    """A linear layer whose bias has any shape, and is computed where ``times`` is not one."""

    def __init__(self, shape, times):
        super().__init__()
        self.inner = nn.Linear(64, 32, bias=False)
        self.shift = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
        self.times = times

    def forward(self, x):
        shift = self.shift if self.times == 1 else self.shift * self.times
        return F.linear(x, self.inner.weight, shift)


@pytest.mark.parametrize("weight", [INT4[0], INT8[0]])
@pytest.mark.parametrize("shape", [(32,), (1,), (1, 32), (5, 32), ()])
@pytest.mark.parametrize("times", [1, 2])
def test_a_bias_may_have_any_shape_and_be_computed(planned, weight, shape, times, is_ours):
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    target = "cpu-int4" if weight is INT4[0] else "cpu-int8-weight-only"
    reference, made = lowered(planned, Biased(shape, times), x, weight, target)
    assert (packed_linear in kernels(made)) == is_ours
    assert relative(made.module(x), reference(x)) < (CODES if is_ours else BF16)


@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize("has", [True, False])
def test_amx_takes_over_where_rows_are_many(planned, monkeypatch, has):
    monkeypatch.setattr(weight_only, "has_tiles", lambda: has)
    x = torch.randn(FEW_INT4 + 1, 384, generator=torch.Generator().manual_seed(0))
    reference, made = lowered(planned, nn.Sequential(nn.Linear(384, 48)), x, INT4[0], "cpu-int4")
    difference = relative(made.module(x), reference(x))
    assert CODES < difference < BF16 if has else 0 < difference < CODES
    assert relative(made.module(x[1:]), reference(x[1:])) < CODES


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_compiler_that_fails_leaves_the_kernels_of_torch(planned, monkeypatch):
    def fail(bits):
        raise RuntimeError("LLVM IR parsing error\n<string>:1:1")

    monkeypatch.setattr(weight_only, "code_for", fail)
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    _, made = lowered(planned, nn.Sequential(nn.Linear(64, 16)), x, INT4[0], "cpu-int4")
    assert kernels(made) == [int4_linear]
    (layer,) = made.report.layers
    assert layer.form == (
        "torch's own: LLVM makes no code here (LLVM IR parsing error <string>:1:1)"
    )


@pytest.mark.parametrize(
    ("vnni", "llvm", "said"), [(False, True, "VNNI"), (True, False, "jit"), (True, True, "")]
)
def test_what_is_missing_is_said(monkeypatch, vnni, llvm, said):
    monkeypatch.setattr(multiply, "multiplies_bytes", lambda: vnni)
    monkeypatch.setattr(multiply, "has_llvm", lambda: llvm)
    assert said in missing()
    assert bool(missing()) == bool(said)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_kernel_of_8_bits_stays_one_on_any_device(planned, monkeypatch, device):
    monkeypatch.setattr(weight_only, "missing", lambda: "no")
    module = trace(nn.Sequential(nn.Linear(64, 16)).eval(), (torch.randn(2, 64),), {}).module
    plan, tensors = planned(module, INT8[0], None)
    rewriting = Rewriting(materialize(module, plan.core, tensors))
    (node,) = (node for node in rewriting.graph.nodes if node.target is F.linear)
    layer = layer_of(rewriting.module, node)
    form = weight_only.weight_only(rewriting, "int8_weight_only", layer, FEW, torch.device(device))
    assert int8_linear in {made.target for made in rewriting.graph.nodes}
    assert form == ("torch's own: no" if device == "cpu" else "")

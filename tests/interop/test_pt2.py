import subprocess
import sys
from math import prod

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from qcompile.interop import compact_unpacking
from qcompile.interop.pt2 import compact, pt2_bytes
from qcompile.policy.number_format import (
    BlockFormat,
    CodebookFormat,
    FloatFormat,
    IntFormat,
    NormalFormat,
    PowerFormat,
    SumFormat,
)
from qcompile.policy.scheme import PerChannel, PerGroup, PerTensor, QuantSlot
from qcompile.quant.fake_quantize import dequantize_weight
from qcompile.quant.packing import pack
from tests.interop.exporting import normal, quantized
from tests.tiny_models import AttentionBlock, seeded

W3 = QuantSlot(
    format=IntFormat(bits=3, signed=False), symmetric=False, granularity=PerGroup(size=8)
)
W4 = QuantSlot(format=IntFormat(bits=4, signed=True), symmetric=True, granularity=PerChannel())
A8 = QuantSlot(format=IntFormat(bits=8, signed=False), symmetric=False, granularity=PerTensor())

CHILD = """
import sys
import torch
from safetensors.torch import load_file, save_file

x = load_file(sys.argv[2])["x"]
y = torch.export.load(sys.argv[1]).module()(x)
save_file({"y": y.contiguous()}, sys.argv[3])
assert not [name for name in sys.modules if name.startswith("qcompile")]
"""


def test_a_fresh_process_with_torch_alone_computes_the_same_bits(tmp_path):
    made = quantized(seeded(AttentionBlock()), (normal(2, 5, 16),), W3, A8)
    (tmp_path / "m.pt2").write_bytes(pt2_bytes(made.module))
    x = normal(4, 5, 16, seed=1)
    save_file({"x": x}, tmp_path / "x.safetensors")
    paths = [str(tmp_path / name) for name in ("m.pt2", "x.safetensors", "y.safetensors")]
    command = [sys.executable, "-c", CHILD, *paths]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        assert torch.equal(load_file(tmp_path / "y.safetensors")["y"], made.module(x))


LEVELS = [
    *(PowerFormat(3), NormalFormat(), CodebookFormat(5), FloatFormat("e4m3"), FloatFormat("e3m2")),
    *(BlockFormat("mxfp6"), BlockFormat("nvfp4")),
    SumFormat((IntFormat(2, signed=True), PowerFormat(4))),
]


@pytest.mark.parametrize("number", LEVELS, ids=str)
def test_weights_on_any_levels_compute_the_same_bits_from_their_codes(tmp_path, number):
    granularity = PerGroup(number.block) if isinstance(number, BlockFormat) else PerChannel()
    spec = QuantSlot(format=number, symmetric=True, granularity=granularity)
    made = quantized(seeded(nn.Sequential(nn.Linear(64, 48))), (normal(2, 64),), spec, None)
    data = pt2_bytes(made.module)
    assert isinstance(data, bytes)
    x = normal(5, 64, seed=1)
    (tmp_path / "m.pt2").write_bytes(data)
    program = torch.export.load(tmp_path / "m.pt2")
    with torch.no_grad():
        assert torch.equal(program.module()(x), made.module(x))
    stored = {**program.state_dict, **program.constants}.values()
    codes = {name: tensor for name, tensor in made.tensors.items() if name.endswith("codes")}
    for tensor in codes.values():
        assert any(torch.equal(tensor, found) for found in stored if found.dtype == torch.uint8)
    assert not any(tuple(found.shape) == (48, 64) for found in stored)


def test_the_file_names_no_path_of_this_machine():
    made = quantized(nn.Sequential(nn.Linear(8, 4)), (normal(2, 8),), W4, A8)
    first, second = pt2_bytes(made.module), pt2_bytes(made.module)
    assert first == second
    assert b".py" not in first


@pytest.mark.parametrize("bits", range(2, 9))
def test_few_operations_give_the_bits_of_the_loop(bits):
    generator = torch.Generator().manual_seed(bits)
    for shape, axis, groups in (((5, 7), 0, (5,)), ((3, 4, 2, 3), 1, (4, 6)), ((6, 4), 0, (1,))):
        codes = torch.randint(0, 1 << bits, (prod(shape),), generator=generator)
        scale = torch.rand(groups, generator=generator)
        zero = torch.randint(0, 1 << bits, groups, generator=generator).to(torch.uint8)
        for point, qmin in ((zero, 0), (None, -(1 << bits - 1)), (zero, -(1 << bits - 1))):
            given = (pack(codes, bits), scale, point, bits, qmin, shape, axis, torch.float32)
            assert torch.equal(
                compact_unpacking.dequantize_weight(*given), dequantize_weight(*given)
            )


def test_a_size_that_follows_another_is_refused():
    made = quantized(nn.Sequential(nn.Linear(8, 4)), (normal(2, 8),), W4, None)
    node = next(iter(made.module.graph.nodes))
    facts = node.meta["qcompile"]
    node.meta["qcompile"] = type(facts)(shape=("s0 + 1", 8), dtype="float32")
    (problem,) = pt2_bytes(made.module)
    assert problem.code.number == "QR552"


def test_other_numbers_than_the_reference_are_not_written(monkeypatch):
    made = quantized(nn.Sequential(nn.Linear(8, 4)), (normal(2, 8),), W4, None)
    other = quantized(seeded(nn.Sequential(nn.Linear(8, 4))), (normal(2, 8),), W4, None)
    monkeypatch.setattr("qcompile.interop.pt2.compact", lambda module: compact(other.module))
    problems = pt2_bytes(made.module)
    assert [problem.code.number for problem in problems] == ["QR553", "QR553"]

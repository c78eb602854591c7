"""The reader that ``docs/format.md`` shows reads what ``simulate`` computes with."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from qcompile.capture.trace import trace
from qcompile.emit.artifact import write_artifact
from qcompile.emit.load import assemble
from qcompile.emit.stored_artifact import read_artifact
from qcompile.policy.number_format import (
    BlockFormat,
    CodebookFormat,
    FloatFormat,
    IntFormat,
    PowerFormat,
    SumFormat,
    terms_of,
)
from qcompile.policy.scheme import PerChannel, PerGroup, PerTensor, QuantSlot
from qcompile.quant.fake_quantize import dequantize_weight
from qcompile.quant.level_weight import quantize_levels
from qcompile.store.disk import Disk
from tests.emit.planning import plan_of, site_of, tensors_of_plan
from tests.specs.literate import blocks

PAGE = Path(__file__).parents[2] / "docs" / "format.md"
MAX_LINES = 30


class Net(nn.Module):
    """An output axis in front, one at the back, and four axes whose rows hold an odd count."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.up = nn.ConvTranspose2d(6, 5, 3)
        self.fc = nn.Linear(5, 7)

    def forward(self, x):
        return self.fc(self.up(self.conv(x)).mean((2, 3)))


def reader():
    (block,) = [block for block in blocks(PAGE.read_text()) if block.language == "python"]
    code = [line for line in block.text.splitlines() if line]
    namespace = {}
    exec(compile(block.text, str(PAGE), "exec"), namespace)
    return code, namespace["read_weight"]


def specs():
    for bits in range(2, 9):
        for granularity in (PerTensor(), PerChannel(), PerChannel(axis=1), PerGroup(size=3)):
            signed, symmetric = bits % 2 == 0, bits in (2, 3, 4, 8)
            number = IntFormat(bits=bits, signed=signed)
            yield QuantSlot(format=number, symmetric=symmetric, granularity=granularity)


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return trace(Net().eval(), (torch.randn(2, 3, 8, 8),), {}).module


@pytest.mark.parametrize("spec", list(specs()), ids=lambda s: f"{s.format}-{s.granularity}")
def test_the_shown_reader_gives_the_bits_of_the_loaded_weight(tmp_path, module, spec):
    _, read_weight = reader()
    names = {"conv", "up"} if isinstance(spec.granularity, PerGroup) else {"conv", "up", "fc"}
    sites = [site_of(module, n, spec, None) for n in module.graph.nodes if n.name in names]
    plan = plan_of(module, sites)
    tensors = tensors_of_plan(module, plan.core)
    assert write_artifact(Disk(), tmp_path / "out", module, plan, tensors, {}) == []
    loaded = assemble(read_artifact(tmp_path / "out"))
    packed = [node for node in loaded.graph.nodes if node.target is dequantize_weight]
    assert len(packed) == len(names)
    for node in packed:
        storage = node.args[0].target.removesuffix("_codes").replace("_weight", ".weight")
        args = [loaded.get_buffer(a.target) if hasattr(a, "target") else a for a in node.args]
        expected = dequantize_weight(*args)
        assert np.array_equal(read_weight(tmp_path / "out", storage), expected.numpy())


def small_float(pattern, element):
    """By the OCP formats, one number at a time; ``None``: infinite or no number."""
    exponent_bits, mantissa_bits = int(element[1]), int(element[3])
    magnitude = pattern & (1 << exponent_bits + mantissa_bits) - 1
    exponent, mantissa = magnitude >> mantissa_bits, magnitude & (1 << mantissa_bits) - 1
    top = (1 << exponent_bits) - 1
    if exponent == top and (element == "e5m2" or (element == "e4m3" and mantissa == 7)):
        return None
    bias = (1 << exponent_bits - 1) - 1
    fraction = mantissa / (1 << mantissa_bits) + (exponent > 0)
    sign = -1 if pattern >> exponent_bits + mantissa_bits else 1
    return sign * fraction * 2.0 ** (max(exponent, 1) - bias)


def read_term(stored, prefix, form):
    """One term of a ``[8, 64]`` weight, after the table of the page."""
    kind, bits = form.kind, form.bits
    stream = np.unpackbits(stored[f"{prefix}codes"].numpy(), bitorder="little")[: 512 * bits]
    codes = stream.reshape(512, bits) @ (1 << np.arange(bits))
    scale = stored[f"{prefix}scale"].numpy()
    match kind:
        case "int":
            table = [code - (1 << bits - 1) for code in range(1 << bits)]
        case "power":
            exponent = form.exponent or float(stored[f"{prefix}exponent"])
            last = (1 << bits - 1) - 1
            steps = np.arange(-last, last + 1) / last
            table = np.sign(steps) * np.abs(steps) ** (1 / exponent)
        case "codebook":
            table = stored[f"{prefix}levels"].numpy()
        case "minifloat" | "block":
            table = [small_float(code, form.element) or 0 for code in range(1 << bits)]
    if form.kind == "block" and form.name == "nvfp4":
        small = np.array([small_float(int(byte), "e4m3") for byte in scale.flat], "f4")
        scale = small.reshape(scale.shape) * stored[f"{prefix}tensor_scale"].numpy()
    elif form.kind == "block":
        scale = (2.0 ** (scale.astype("f8") - 127)).astype("f4")
    values = np.asarray(table, "f4")[codes].reshape(scale.size, -1) * scale.reshape(-1, 1)
    return values.reshape(8, 64)


LEVELS = [
    *(PowerFormat(3), PowerFormat(5, 0.5), CodebookFormat(3)),
    *(FloatFormat("e4m3"), FloatFormat("e5m2"), FloatFormat("e2m3"), FloatFormat("e3m2")),
    *(BlockFormat("mxfp8"), BlockFormat("mxfp6"), BlockFormat("mxfp4"), BlockFormat("nvfp4")),
    SumFormat((IntFormat(2, signed=True), PowerFormat(4), CodebookFormat(2))),
]


@pytest.mark.parametrize("number", LEVELS, ids=str)
def test_the_table_of_levels_gives_the_bits_of_the_weight(number):
    granularity = PerGroup(number.block) if isinstance(number, BlockFormat) else PerChannel()
    spec = QuantSlot(format=number, symmetric=True, granularity=granularity)
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    made = quantize_levels(weight, spec, 0)
    stored, total = made.tensors("w"), np.zeros((8, 64), "f4")
    for place, form in enumerate(terms_of(number), start=1):
        prefix = "w:" if place == 1 else f"w:term{place}."
        total = total + read_term(stored, prefix, form)
    assert np.array_equal(total, made.dequantize(torch.float32).numpy())


def test_the_shown_reader_is_short():
    code, _ = reader()
    assert len(code) <= MAX_LINES

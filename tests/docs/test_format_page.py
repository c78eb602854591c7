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
from qcompile.policy.scheme import IntFormat, PerChannel, PerGroup, PerTensor, QuantSlot
from qcompile.quant.fake_quantize import dequantize_weight
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


def test_the_shown_reader_is_short():
    code, _ = reader()
    assert len(code) <= MAX_LINES

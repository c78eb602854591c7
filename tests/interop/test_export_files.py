"""GGUF and compressed-tensors files, read back by decoders written from the formats' own pages."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from qcompile.diagnostics.failure import CompileError
from qcompile.driver.export import export
from qcompile.policy.scheme import (
    IntFormat,
    PerChannel,
    PerGroup,
    PerTensor,
    PerToken,
    QuantSlot,
    SignedMse,
)
from qcompile.quant.quantized_weight import from_tensors
from tests.interop.exporting import normal, quantized
from tests.tiny_models import ConvNet, seeded


def slot(bits, granularity, *, signed=True, symmetric=True, dynamic=False):
    number = IntFormat(bits=bits, signed=signed)
    return QuantSlot(format=number, symmetric=symmetric, granularity=granularity, dynamic=dynamic)


def turned(spec):
    """With scales of both signs."""
    return replace(spec, observer=SignedMse())


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(torch.relu(self.fc(x)))


def made(weight, act=None):
    return quantized(seeded(Two()), (normal(2, 64),), weight, act, only="fc")


def simulated(found, name="fc"):
    (site,) = found.plan.core.sites
    plan = site.tensors[0]
    stored = from_tensors(found.tensors, f"{name}.weight", plan.spec, plan.shape, plan.output_axis)
    return stored.dequantize(torch.float32).numpy()


# ---- GGUF ----------------------------------------------------------------------------------------


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        found = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found[0] if len(found) == 1 else found

    def text(self):
        length = self.take("Q")
        self.at += length
        return self.data[self.at - length : self.at].decode()


def read_gguf(data):
    reader = Reader(data)
    assert reader.data[:4] == b"GGUF"
    reader.at = 4
    version, tensors, pairs = reader.take("IQQ")
    assert version == 3
    keys = {}
    for _ in range(pairs):
        key = reader.text()
        keys[key] = reader.text() if reader.take("I") == 8 else reader.take("I")
    found = {}
    for _ in range(tensors):
        name = reader.text()
        axes = [reader.take("Q") for _ in range(reader.take("I"))]
        kind, offset = reader.take("IQ")
        found[name] = (kind, axes[::-1], offset)
    start = -(-reader.at // 32) * 32
    return keys, {name: (k, a, data[start + o :]) for name, (k, a, o) in found.items()}


def decoded(kind, axes, data):
    """From the block structures of ggml: d, then m, then the fifth bits, then the codes."""
    count = int(np.prod(axes)) // 32
    values = []
    size = {2: 18, 3: 20, 6: 22, 7: 24, 8: 34}[kind]
    for block in (data[i * size : (i + 1) * size] for i in range(count)):
        d = np.frombuffer(block[:2], "<f2")[0].astype("f4")
        if kind == 8:
            values.append(np.frombuffer(block[2:], "i1") * d)
            continue
        m = np.frombuffer(block[2:4], "<f2")[0].astype("f4") if kind in (3, 7) else None
        codes = np.frombuffer(block[-16:], "u1")
        q = np.concatenate([codes & 15, codes >> 4]).astype("i4")
        if kind in (6, 7):
            (high,) = struct.unpack("<I", block[-20:-16])
            q |= np.array([(high >> i & 1) << 4 for i in range(32)])
        values.append(q * d + m if m is not None else (q - (8 if kind == 2 else 16)) * d)
    return np.concatenate(values).reshape(axes)


BLOCKS = [
    (slot(8, PerGroup(size=32)), 8),
    (slot(4, PerGroup(size=32)), 2),
    (turned(slot(4, PerGroup(size=32))), 2),
    (turned(slot(8, PerGroup(size=32))), 8),
    (slot(4, PerChannel()), 2),
    (slot(4, PerGroup(size=64), signed=False, symmetric=False), 3),
    (slot(4, PerTensor(), symmetric=False), 3),
    (slot(5, PerGroup(size=32)), 6),
    (slot(5, PerGroup(size=32), signed=False, symmetric=False), 7),
]


@pytest.mark.parametrize(("spec", "kind"), BLOCKS, ids=lambda item: str(item)[:60])
def test_gguf_blocks_hold_our_codes_and_scales_to_half_precision(tmp_path, spec, kind):
    found = made(spec)
    out = found.written_to(tmp_path / "out")
    done = export(out, "gguf", tmp_path / "m.gguf")
    data = done.path.read_bytes()
    assert done.bytes == len(data)
    keys, tensors = read_gguf(data)
    assert keys["general.architecture"] == "qcompile"
    assert keys["qcompile.identity"] == json.loads((out / "manifest.json").read_text())["identity"]
    assert tensors["fc.weight"][0] == kind
    expected = simulated(found)
    largest = abs(expected).max() * (2 if spec.symmetric is False else 1)
    np.testing.assert_allclose(decoded(*tensors["fc.weight"]), expected, atol=largest * 2**-10)
    kind, axes, raw = tensors["out.weight"]
    plain = np.frombuffer(raw[: 4 * 24], "<f4").reshape(axes)
    assert (kind, axes) == (0, [3, 8])
    assert np.array_equal(plain, found.graph.out.weight.detach().numpy())


def test_a_scale_that_half_precision_loses_is_refused(tmp_path):
    found = made(slot(4, PerGroup(size=32)))
    found.tensors["fc.weight:scale"][0, 0] = 1e-6
    out = found.written_to(tmp_path / "out")
    with pytest.raises(CompileError) as raised:
        export(out, "gguf", tmp_path / "m.gguf")
    assert [d.code.number for d in raised.value.diagnostics] == ["QR550"]
    assert not (tmp_path / "m.gguf").exists()


# ---- compressed-tensors --------------------------------------------------------------------------


def ints(words, bits, count):
    """``count`` signed integers of each row of int32 words."""
    stream = np.unpackbits(words.numpy().view("u1"), axis=1, bitorder="little")
    stream = stream[:, : count * bits].reshape(len(words), count, bits)
    return stream @ (1 << np.arange(bits)) - (1 << bits - 1)


PACKED = [
    slot(4, PerChannel()),
    slot(4, PerGroup(size=16)),
    turned(slot(4, PerGroup(size=16))),
    slot(4, PerGroup(size=16), signed=False, symmetric=False),
    slot(8, PerTensor()),
    slot(8, PerChannel(), signed=False, symmetric=False),
]


@pytest.mark.parametrize("spec", PACKED, ids=lambda s: f"{s.format}-{s.granularity}")
def test_packed_weights_decode_to_the_simulated_numbers(tmp_path, spec):
    found = made(spec)
    export(found.written_to(tmp_path / "out"), "compressed-tensors", tmp_path / "ct")
    stored = load_file(tmp_path / "ct" / "model.safetensors")
    rows, columns = stored["fc.weight_shape"].tolist()
    codes = ints(stored["fc.weight_packed"], spec.bits, columns)
    scale = stored["fc.weight_scale"].numpy()
    zero = np.zeros((rows, 1))
    if not spec.symmetric:
        packed = stored["fc.weight_zero_point"]
        zero = ints(packed.t().contiguous(), spec.bits, rows).T
    wide = columns // scale.reshape(-1, scale.shape[-1]).shape[1]
    values = (codes - zero.repeat(columns // zero.shape[1], 1)) * scale.repeat(wide, -1)
    np.testing.assert_array_equal(values.astype("f4"), simulated(found))
    config = json.loads((tmp_path / "ct" / "config.json").read_text())["quantization_config"]
    (group,) = config["config_groups"].values()
    assert (config["quant_method"], config["format"]) == ("compressed-tensors", "pack-quantized")
    assert group["targets"] == ["fc"]
    assert group["weights"]["num_bits"] == spec.bits
    assert torch.equal(stored["out.weight"], found.graph.out.weight)


ACTS = [
    slot(8, PerToken(), dynamic=True),
    slot(8, PerTensor(), signed=False, symmetric=False),
]


@pytest.mark.parametrize("act", ACTS, ids=lambda s: f"{s.format}-{s.granularity}")
def test_activations_make_it_int_quantized(tmp_path, act):
    found = made(slot(8, PerChannel()), act)
    export(found.written_to(tmp_path / "out"), "compressed-tensors", tmp_path / "ct")
    stored = load_file(tmp_path / "ct" / "model.safetensors")
    values = stored["fc.weight"].numpy() * stored["fc.weight_scale"].numpy()
    np.testing.assert_array_equal(values, simulated(found))
    config = json.loads((tmp_path / "ct" / "config.json").read_text())["quantization_config"]
    arguments = config["config_groups"]["group_0"]["input_activations"]
    assert (config["format"], arguments["dynamic"]) == ("int-quantized", act.dynamic)
    if not act.dynamic:
        assert stored["fc.input_zero_point"].item() == 85 - 128


# ---- the output ----------------------------------------------------------------------------------


def code_of(call):
    with pytest.raises(CompileError) as raised:
        call()
    return [d.code.number for d in raised.value.diagnostics]


def test_nothing_is_written_over_or_beside(tmp_path):
    out = made(slot(4, PerChannel())).written_to(tmp_path / "out")
    taken = tmp_path / "m.onnx"
    taken.write_text("mine")
    assert code_of(lambda: export(out, "onnx", taken)) == ["QR901"]
    assert taken.read_text() == "mine"
    assert code_of(lambda: export(out, "onnx", tmp_path)) == ["QR901"]
    assert code_of(lambda: export(out, "compressed-tensors", out)) == ["QR901"]
    assert code_of(lambda: export(tmp_path, "onnx", tmp_path / "x.onnx")) == ["QR903"]
    assert code_of(lambda: export(out, "tflite", tmp_path / "x")) == ["QR290"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "out"]
    export(out, "onnx", taken, replace=True)
    assert taken.read_bytes() != b"mine"


def test_what_a_format_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    found = quantized(seeded(ConvNet()), (normal(2, 3, 8, 8),), slot(4, PerChannel()), None)
    out = found.written_to(tmp_path / "out")
    assert code_of(lambda: export(out, "gguf", tmp_path / "m.gguf")) == ["QR550", "QR550"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

import json
import struct

import pytest
import torch
from safetensors.torch import save

from qcompile.store.safetensors_header import ITEM_BYTES, Header, parse_header, read_header

F32 = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


def made(header, data=b"\0" * 16):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def changed(**fields):
    return made({"a": F32 | fields})


def test_entries_say_where_the_bytes_lie(tmp_path):
    tensors = {
        "b": torch.arange(6, dtype=torch.int64).reshape(2, 3),
        "a": torch.tensor([1.5]),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(True),
    }
    path = tmp_path / "w.safetensors"
    path.write_bytes(save(tensors, metadata={"k": "v"}))
    header = read_header(path)
    assert isinstance(header, Header)
    assert header == parse_header(path.read_bytes())
    assert header.metadata == (("k", "v"),)
    assert {entry.name: entry.shape for entry in header.entries} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }
    data = path.read_bytes()
    for entry in header.entries:
        assert data[entry.begin : entry.end] == tensors[entry.name].numpy().tobytes()
    assert header.tensor_bytes == sum(t.nbytes for t in tensors.values())


def test_every_dtype_that_torch_writes_is_known():
    kinds = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
    kinds += ["float16", "bfloat16", "float32", "float64", "complex64"]
    kinds += ["float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"]
    tensors = {kind: torch.zeros(3, dtype=getattr(torch, kind)) for kind in kinds}
    header = parse_header(save(tensors))
    assert isinstance(header, Header)
    assert {entry.dtype for entry in header.entries} == set(ITEM_BYTES)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "shorter"),
        (b"\x80\x04N.", "shorter"),
        (made({"a": F32})[:-1], "truncated"),
        (made({"a": F32})[:20], "truncated inside"),
        (struct.pack("<Q", 2**60) + b"{}", "header of"),
        (made({"a": F32}) + b"x", "after the last"),
        (changed(shape=[2], data_offsets=[8, 16]), "hole"),
        (made({"a": F32, "b": F32}), "overlapping"),
        (made(b'{"a":' + json.dumps(F32).encode() + b',"a":' + json.dumps(F32).encode() + b"}"),
         "twice"),
        (made(b'{"a":{"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}}'), "twice"),
        (changed(shape=[2**62, 2**62]), "do not need"),
        (changed(shape=[2**64]), "natural"),
        (changed(shape=[1] * 65 + [4]), "natural"),
        (changed(shape=[-4]), "natural"),
        (changed(shape=[True, 4]), "natural"),
        (changed(shape=[4.0]), "natural"),
        (changed(shape=4), "natural"),
        (changed(data_offsets=[0]), "natural"),
        (changed(data_offsets=[16, 0]), "do not need"),
        (changed(data_offsets=[16, 32]), "hole"),
        (changed(dtype="F33"), "unknown dtype"),
        (changed(dtype=["F32"]), "unknown dtype"),
        (changed(more=1), "other fields"),
        (made({"a": [1]}), "not a table"),
        (made({"__metadata__": {"a": 1}}, b""), "not text"),
        (made({"__metadata__": 1}, b""), "not a table"),
        (made(b"[1]"), "begin with"),
        (made(b'{"a":'), "not JSON"),
        (made(b"{\xff}"), "not JSON"),
        (made(b'{"a":' * 100_000), "not JSON"),
        (made(b'{"a":NaN}'), "NaN"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_with_its_reason(tmp_path, data, why):
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    reason = read_header(path)
    assert isinstance(reason, str)
    assert why in reason
    assert parse_header(data) == reason


def test_what_is_not_a_file_is_refused(tmp_path):
    assert read_header(tmp_path) == "is not a file"
    assert read_header(tmp_path / "absent") == "is not a file"

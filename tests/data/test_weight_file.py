"""Hostile and damaged weight files, and pickles: refused before any tensor is made."""

import json
import os
import pickle
import struct

import pytest
import torch
from safetensors.torch import save, save_file

from qcompile.data.weight_file import read_header
from qcompile.data.weights import open_weights
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic

GOOD = save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])})


def made(header, data=b"\0" * 16):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(begin, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


A = b'"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}'

HOSTILE = {
    "empty": b"",
    "seven bytes": GOOD[:7],
    "half a header": GOOD[:40],
    "half of the data": GOOD[:-8],
    "trailing bytes": GOOD + b"xx",
    "header of 2^60": struct.pack("<Q", 2**60) + GOOD[8:],
    "header of 2^64-1": b"\xff" * 8 + GOOD[8:],
    "hole at the start": made({"a": tensor(8, 16, [2])}),
    "hole between": made({"a": tensor(0, 4, [1]), "b": tensor(8, 16, [2])}),
    "overlap": made({"a": tensor(0, 16, [4]), "b": tensor(8, 16, [2])}),
    "same bytes twice": made({"a": tensor(0, 16, [4]), "b": tensor(0, 16, [4])}),
    "duplicate tensor": made(b"{" + A + b"," + A + b"}"),
    "duplicate field": made(
        b'{"a":{"dtype":"F32","dtype":"I32","shape":[4],"data_offsets":[0,16]}}'
    ),
    "shape overflow": made({"a": tensor(0, 16, [2**62, 2**62])}),
    "shape beyond 64 bits": made({"a": tensor(0, 16, [2**64])}),
    "negative shape": made({"a": tensor(0, 16, [-4])}),
    "boolean shape": made({"a": tensor(0, 4, [True])}, b"\0" * 4),
    "fractional shape": made({"a": tensor(0, 16, [4.0])}),
    "end before begin": made({"a": tensor(16, 0, [4])}),
    "offsets past the end": made({"a": tensor(0, 64, [16])}),
    "three offsets": made({"a": {**tensor(0, 16, [4]), "data_offsets": [0, 8, 16]}}),
    "unknown dtype": made({"a": tensor(0, 16, [4], "Q4_K")}),
    "unknown field": made({"a": {**tensor(0, 16, [4]), "x": 1}}),
    "no dtype": made({"a": {"shape": [4], "data_offsets": [0, 16]}}),
    "a list": made([1, 2]),
    "metadata of numbers": made({"__metadata__": {"a": 1}, "a": tensor(0, 16, [4])}),
    "not JSON": made(b"{not json}"),
    "not UTF-8": made(b'{"\xff":1}'),
    "half a surrogate pair": made(b'{"\\ud800":' + A[4:] + b"}"),
    "deep nesting": made(b"[" * 100_000),
    "digits without end": made(b'{"a":' + b"9" * 10_000 + b"}"),
    "a thousand dimensions": made({"a": tensor(0, 16, [1] * 1000)}),
    "a pickle": pickle.dumps({1: 2}),
    "a zip": b"PK\x03\x04" + b"\0" * 100,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_by_name(tmp_path, name):
    path = tmp_path / "model.safetensors"
    path.write_bytes(HOSTILE[name])
    problem = read_header(path)
    assert isinstance(problem, Diagnostic)
    assert problem.code is Code.WEIGHT_FILE
    assert "`model.safetensors`" in problem.message
    assert ("pickle" in problem.message) == (name in {"a pickle", "a zip"})


def test_every_truncation_of_a_good_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    for length in range(len(GOOD)):
        path.write_bytes(GOOD[:length])
        assert isinstance(read_header(path), Diagnostic), length


def test_a_good_file_is_read_in_order_of_its_bytes(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(GOOD)
    entries = read_header(path)
    assert not isinstance(entries, Diagnostic)
    assert {entry.name: (entry.dtype, entry.shape) for entry in entries} == {
        "a": (torch.float32, (2, 3)),
        "b": (torch.int64, (2,)),
    }
    assert [entry.start for entry in entries] == sorted(entry.start for entry in entries)


def test_a_file_without_tensors_and_empty_tensors_are_fine(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({}, path)
    assert read_header(path) == []
    save_file({"none": torch.zeros(0, 3), "one": torch.ones(())}, path)
    entries = read_header(path)
    assert not isinstance(entries, Diagnostic)
    assert {entry.name: entry.size for entry in entries} == {"none": 0, "one": 4}


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.system, (f"touch {self.marker}",))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".safetensors"])
def test_a_pickle_is_never_opened(tmp_path, suffix):
    marker = tmp_path / "ran"
    path = tmp_path / f"model{suffix}"
    torch.save({"w": Payload(marker)}, path)
    problem = open_weights(path)
    assert isinstance(problem, Diagnostic)
    assert problem.code is Code.WEIGHT_FILE
    assert "safetensors.torch.save_file" in (problem.help or "")
    assert not marker.exists()


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("pipe.safetensors", "folder.safetensors", "absent.safetensors", "nul\0"):
        problem = open_weights(tmp_path / name)
        assert isinstance(problem, Diagnostic)
        assert problem.code is Code.WEIGHT_FILE


def test_a_wrong_file_name_gets_the_nearest(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(GOOD)
    problem = open_weights(tmp_path / "modle.safetensors")
    assert isinstance(problem, Diagnostic)
    assert problem.help == "did you mean `model.safetensors`?"

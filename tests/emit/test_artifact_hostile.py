"""Artifacts of somebody who can hash, against the loader and against the auditor."""

import json
import os
import struct
import tracemalloc

import pytest
from safetensors.torch import load_file

from qcompile.audit import sealed_files
from qcompile.driver.load import report_of, verify
from qcompile.emit import stored_artifact
from qcompile.emit.artifact import model_bytes, write_artifact
from qcompile.emit.artifact_files import sealed
from qcompile.emit.stored_artifact import MAX_TEXT_BYTES
from qcompile.store.disk import Disk
from tests.emit.tampering import rewritten
from tests.emit.test_artifact import REPORT, load_numbers, numbers

LITTLE = 32 << 20


@pytest.fixture
def artifact(tmp_path, conv_graph, planned, specs):
    plan, tensors = planned(conv_graph, specs["w3"])
    out = tmp_path / "conv"
    assert write_artifact(Disk(), out, conv_graph, plan, tensors, REPORT) == []
    return out, plan


def file_of(header, body=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + body


ENTRY = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
TWICE = json.dumps(ENTRY).encode()
FILES = {
    "empty": b"",
    "a pickle": b"\x80\x04N.",
    "huge header": struct.pack("<Q", 1 << 60) + b"{}",
    "header of a gigabyte": struct.pack("<Q", 1 << 30) + b"{}",
    "truncated": file_of({"a": ENTRY}, b"123"),
    "a key twice": file_of(b'{"a": %s, "a": %s}' % (TWICE, TWICE), b"1234"),
    "an impossible shape": file_of({"a": ENTRY | {"shape": [1 << 62, 1 << 62]}}, b"1234"),
    "nested": file_of(b"[" * 1_000_000),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_a_hashed_file_of_tensors_is_refused_in_little_memory(artifact, data):
    out, plan = artifact
    rewritten(out, {"model.safetensors": data}, plan.core)
    tracemalloc.start()
    assert load_numbers(out) == ["QR902"]
    assert numbers(verify(out)) == ["QR902"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LITTLE


def test_a_renamed_tensor_is_named_whoever_hashed_it(artifact):
    out, plan = artifact
    stored = load_file(out / "model.safetensors")
    for name in ("head.weight:codes", "head.weight:scale", "head.bias"):
        changed = {f"{key}s" if key == name else key: value for key, value in stored.items()}
        rewritten(out, {"model.safetensors": model_bytes(changed)}, plan.core)
        assert set(load_numbers(out)) <= {"QR909", "QR910"}
        problems = verify(out)
        assert set(numbers(problems)) == {"QR910"}
        said = " ".join(problem.message for problem in problems)
        assert f"`{name}` is missing" in said
        assert f"`{name}s` is in no plan" in said


def manifest_says(out, name, size):
    document = json.loads((out / "manifest.json").read_bytes())
    del document["seal"]
    document["files"][name]["size"] = size
    (out / "manifest.json").write_bytes(sealed(document))


def test_text_of_any_size_is_not_read(artifact):
    """The file has a hole: it takes no disk, and would take all memory."""
    out, _ = artifact
    for name in ("plan.json", "graph.json", "recipe/a.qrecipe"):
        kept = (out / name).read_bytes()
        os.truncate(out / name, 1 << 40)
        manifest_says(out, name, 1 << 40)
        tracemalloc.start()
        assert load_numbers(out) == ["QR902"]
        (problem,) = verify(out)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (problem.code.number, problem.message) == (
            "QR902",
            f"`{name}` is larger than {MAX_TEXT_BYTES} bytes",
        )
        assert peak < LITTLE
        (out / name).write_bytes(kept)
        manifest_says(out, name, len(kept))
    assert verify(out) == []


def test_a_report_of_any_size_is_not_read(artifact):
    out, _ = artifact
    os.truncate(out / "report.json", 1 << 40)
    assert report_of(out) is None
    assert numbers(verify(out)) == ["QR902"]


def test_a_manifest_of_any_size_is_not_read(artifact):
    out, _ = artifact
    os.truncate(out / "manifest.json", 1 << 40)
    assert load_numbers(out) == ["QR903"]
    assert numbers(verify(out)) == ["QR903"]


def test_loader_and_auditor_have_the_same_limit():
    assert sealed_files.MAX_TEXT_BYTES == stored_artifact.MAX_TEXT_BYTES


@pytest.mark.parametrize("name", ["manifest.json", "graph.json", "model.safetensors"])
def test_a_link_out_of_the_folder_is_not_followed(tmp_path, artifact, name):
    out, _ = artifact
    (out / name).rename(tmp_path / name)
    (out / name).symlink_to(tmp_path / name)
    assert load_numbers(out) == ["QR902"]
    (problem,) = verify(out)
    assert (problem.code.number, problem.message.startswith(f"`{name}` is a link")) == (
        "QR902",
        True,
    )

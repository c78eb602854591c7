import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from qcompile.diagnostics.failure import CompileError
from qcompile.driver.load import verify
from qcompile.emit.artifact import model_bytes, write_artifact
from qcompile.emit.artifact_files import (
    is_artifact_path,
    recipe_files,
    sealed,
)
from qcompile.emit.load import load
from qcompile.emit.lower.difference import relative
from qcompile.emit.lower.exact import simulation
from qcompile.emit.materialize import materialize
from qcompile.store.canonical import canonical_json, sha256_hex
from qcompile.store.disk import Disk
from tests.emit.tampering import rewritten

REPORT = {"units": [{"name": "stem", "error": 0.25}], "seconds": 1.5}


def numbers(problems):
    return [problem.code.number for problem in problems]


def load_numbers(directory):
    with pytest.raises(CompileError) as raised:
        load(directory)
    return numbers(raised.value.diagnostics)


def files_of(directory):
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


@pytest.fixture
def attention_artifact(tmp_path, attention_graph, planned):
    plan, tensors = planned(attention_graph)
    out = tmp_path / "attention"
    assert write_artifact(Disk(), out, attention_graph, plan, tensors, REPORT) == []
    return out, attention_graph, plan, tensors


@pytest.fixture
def conv_artifact(tmp_path, conv_graph, planned, specs):
    plan, tensors = planned(conv_graph, specs["w3"])
    out = tmp_path / "conv"
    assert write_artifact(Disk(), out, conv_graph, plan, tensors, REPORT) == []
    return out, conv_graph, plan, tensors


def test_an_artifact_is_whole_and_verifies(conv_artifact, attention_artifact):
    for out, *_ in (conv_artifact, attention_artifact):
        assert verify(out) == []
        assert set(files_of(out)) == {
            "manifest.json",
            "model.safetensors",
            "graph.json",
            "plan.json",
            "report.json",
            "recipe/0-b.qrecipe",
            "recipe/a.qrecipe",
        }
        for name in ("manifest.json", "graph.json", "plan.json", "report.json"):
            assert json.loads((out / name).read_bytes())["format_version"] == "1.0"


HEADER = 8
"""Bytes of a safetensors file that say how long its table is, which comes next."""


def test_planned_bytes_are_those_of_the_file_without_its_table(conv_artifact, attention_artifact):
    for out, _, plan, _ in (conv_artifact, attention_artifact):
        stored = (out / "model.safetensors").read_bytes()
        table = int.from_bytes(stored[:HEADER], "little")
        assert len(stored) - HEADER - table == plan.core.bytes_after


CHILD = """
import sys, torch
from safetensors.torch import load_file, save_file
from qcompile.emit.load import load
module = load(sys.argv[1])
batch = load_file(sys.argv[2])
found = module(*(batch[name] for name in sorted(batch)))
flat = {"logits": found["logits"], "a": found["last"][0], "b": found["last"][1]}
save_file({name: tensor.contiguous() for name, tensor in flat.items()}, sys.argv[3])
assert "tests" not in " ".join(sys.modules)
"""


def test_a_fresh_process_without_user_code_computes_the_same_bits(
    tmp_path, attention_artifact, attention_batch
):
    out, module, plan, tensors = attention_artifact
    save_file(dict(zip("ab", attention_batch, strict=True)), tmp_path / "in.safetensors")
    paths = [out, tmp_path / "in.safetensors", tmp_path / "found.safetensors"]
    command = [sys.executable, "-c", CHILD, *map(str, paths)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = load_file(paths[2])
    with torch.no_grad():
        expected = simulation(materialize(module, plan.core, tensors))(*attention_batch)
    assert torch.equal(found["logits"], expected["logits"])
    assert torch.equal(found["a"], expected["last"][0])
    assert torch.equal(found["b"], expected["last"][1])


def test_a_loaded_convolution_computes_the_same_bits(conv_artifact, conv_batch):
    out, module, plan, tensors = conv_artifact
    reference = materialize(module, plan.core, tensors)
    assert torch.equal(load(out)(*conv_batch), simulation(reference)(*conv_batch))
    assert relative(load(out)(*conv_batch), reference(*conv_batch)) < 5e-3


def test_tensors_left_in_float_are_byte_identical_and_stored_once(attention_artifact):
    out, module, plan, _ = attention_artifact
    stored = load_file(out / "model.safetensors")
    assert torch.equal(stored["norm.weight"], module.norm.weight)
    assert torch.equal(stored["ramp"], module.ramp)
    assert torch.equal(stored["qkv.bias"], module.qkv.bias)
    assert "embed.weight" not in stored
    assert "out.weight" not in stored
    assert "embed.weight:codes" in stored
    assert "out.weight:codes" not in stored
    assert sum(tensor.nbytes for tensor in stored.values()) == plan.core.bytes_after
    records = {r["name"]: r for r in json.loads((out / "graph.json").read_bytes())["tensors"]}
    assert records["out.weight"]["alias"] == "embed.weight"


def test_two_writes_differ_in_the_report_alone(tmp_path, attention_artifact):
    out, module, plan, tensors = attention_artifact
    again = tmp_path / "again"
    shuffled = dict(reversed(tensors.items()))
    assert write_artifact(Disk(), again, module, plan, shuffled, {"seconds": 9.0}) == []
    first, second = files_of(out), files_of(again)
    assert first.pop("report.json") != second.pop("report.json")
    assert first == second


def test_memory_layout_does_not_reach_the_disk():
    base = torch.arange(12.0)
    layouts = {"a": base.view(3, 4).t(), "b": base[2:5], "c": base, "d": base.view(3, 4)}
    copies = {name: tensor.clone().contiguous() for name, tensor in reversed(layouts.items())}
    assert model_bytes(layouts) == model_bytes(copies)


def test_one_flipped_bit_in_any_file_is_found(conv_artifact):
    out, *_ = conv_artifact
    for name, whole in files_of(out).items():
        step = max(1, len(whole) // 40)
        for position in range(0, len(whole), step):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << (position % 8)
            (out / name).write_bytes(flipped)
            problems = verify(out)
            assert numbers(problems) == ["QR902"], (name, position)
            assert problems[0].subject == name
            if name != "report.json":
                assert load_numbers(out) == ["QR902"]
        (out / name).write_bytes(whole)
    assert verify(out) == []


def test_a_truncated_or_missing_file_is_found(conv_artifact):
    out, *_ = conv_artifact
    for name, whole in files_of(out).items():
        for kept in (0, len(whole) // 2, len(whole) - 1):
            (out / name).write_bytes(whole[:kept])
            assert numbers(verify(out)) == ["QR902"], name
        (out / name).unlink()
        expected = "QR903" if name == "manifest.json" else "QR902"
        assert numbers(verify(out)) == [expected], name
        (out / name).write_bytes(whole)


def test_the_report_is_no_part_of_what_is_loaded(conv_artifact):
    out, *_ = conv_artifact
    (out / "report.json").unlink()
    load(out)


def test_what_is_not_an_artifact_is_told_from_a_damaged_one(tmp_path, conv_artifact):
    assert load_numbers(tmp_path / "absent") == ["QR903"]
    (tmp_path / "empty").mkdir()
    assert load_numbers(tmp_path / "empty") == ["QR903"]
    (tmp_path / "empty" / "manifest.json").write_text('{"name": "a web app"}')
    assert load_numbers(tmp_path / "empty") == ["QR903"]
    assert load_numbers(conv_artifact[0] / "plan.json") == ["QR903"]


def test_a_later_format_says_so(conv_artifact):
    out, *_ = conv_artifact
    document = json.loads((out / "manifest.json").read_bytes())
    del document["seal"]
    (out / "manifest.json").write_bytes(sealed(document | {"format_version": "2.0"}))
    assert load_numbers(out) == ["QR908"]


@pytest.mark.parametrize(
    "name",
    [
        *("../plan.json", "/etc/passwd", "recipe/../../x", "other", "recipe"),
        *("pretrained", "pretrained/../x", "pretrained/./x", "other/config.json"),
    ],
)
def test_a_manifest_cannot_name_files_outside(conv_artifact, name):
    out, *_ = conv_artifact
    document = json.loads((out / "manifest.json").read_bytes())
    del document["seal"]
    document["files"][name] = document["files"]["plan.json"]
    (out / "manifest.json").write_bytes(sealed(document))
    assert load_numbers(out) == ["QR902"]
    assert not is_artifact_path(name)


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path, conv_artifact):
    out, *_ = conv_artifact
    (out / "plan.json").rename(tmp_path / "plan.json")
    (out / "plan.json").symlink_to(tmp_path / "plan.json")
    assert load_numbers(out) == ["QR902"]


def with_tensors(out, change):
    stored = load_file(out / "model.safetensors")
    change(stored)
    return {"model.safetensors": model_bytes(stored)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.update({"stray": torch.zeros(1)}), "`stray` is in no plan"),
        (lambda t: t.update({"stem.weight": torch.zeros(8, 3, 3, 3)}), "float copy"),
        (lambda t: t.pop("head.weight:scale"), "`head.weight:scale` is missing"),
        (lambda t: t.pop("head.bias"), "`head.bias` is missing"),
        (lambda t: t.update({"head.bias": t["head.bias"].double()}), "`head.bias` is F64"),
        (lambda t: t.update({"stem.weight:codes": t["stem.weight:codes"][1:]}), "planned U8"),
    ],
    ids=["stray", "float copy", "no scale", "no bias", "dtype", "shape"],
)
def test_verify_names_every_tensor_that_is_not_as_planned(conv_artifact, change, named):
    out, _, plan, _ = conv_artifact
    rewritten(out, with_tensors(out, change), plan.core)
    problems = verify(out)
    assert set(numbers(problems)) == {"QR910"}
    assert any(named in problem.message for problem in problems)


def test_verify_compares_bytes_with_the_forecast(conv_artifact):
    out, _, plan, _ = conv_artifact
    core = plan.core.model_copy(update={"bytes_after": plan.core.bytes_after + 1})
    sha = sha256_hex(canonical_json(core.model_dump(mode="json")))
    changed = plan.model_copy(update={"core": core, "core_sha256": sha})
    rewritten(out, {"plan.json": canonical_json(changed.model_dump(mode="json"))}, core)
    problems = verify(out)
    assert numbers(problems) == ["QR910"]
    assert f"planned {core.bytes_after}" in problems[0].message


def test_files_of_two_artifacts_do_not_mix(tmp_path, conv_artifact, planned, specs):
    out, module, *_ = conv_artifact
    other_plan, other_tensors = planned(module, specs["w4"])
    other = tmp_path / "other"
    write_artifact(Disk(), other, module, other_plan, other_tensors, REPORT)
    rewritten(out, {"plan.json": (other / "plan.json").read_bytes()})
    assert load_numbers(out) == ["QR902"]


def test_a_hostile_graph_in_a_well_hashed_artifact_is_refused(conv_artifact):
    out, _, plan, _ = conv_artifact
    graph = json.loads((out / "graph.json").read_bytes())
    call = next(node for node in graph["nodes"] if node["op"] == "call_function")
    call["target"] = "os.system"
    rewritten(out, {"graph.json": canonical_json(graph)}, plan.core)
    assert load_numbers(out) == ["QR909"]
    assert numbers(verify(out)) == ["QR909"]


def test_nothing_is_written_when_something_is_missing(tmp_path, conv_graph, planned):
    plan, tensors = planned(conv_graph)
    del tensors["stem.weight:codes"]
    out = tmp_path / "out"
    assert numbers(write_artifact(Disk(), out, conv_graph, plan, tensors, {})) == ["QR910"]
    assert list(tmp_path.iterdir()) == []


def test_an_occupied_directory_is_refused_and_an_artifact_replaced_when_asked(conv_artifact):
    out, module, plan, tensors = conv_artifact
    before = files_of(out)
    assert numbers(write_artifact(Disk(), out, module, plan, tensors, {})) == ["QR901"]
    assert files_of(out) == before
    assert write_artifact(Disk(), out, module, plan, tensors, {}, replace=True) == []
    assert files_of(out)["report.json"] != before["report.json"]


class FailingDisk(Disk):
    """A full disk (or, with ``cut``, the end of the process) at the ``at``-th write or rename."""

    def __init__(self, at, cut):
        self.left, self.cut = at, cut

    def _step(self):
        self.left -= 1
        if self.left == -1 or (self.cut and self.left < 0):
            raise KeyboardInterrupt if self.cut else OSError(28, "No space left on device")

    def write(self, descriptor, data):
        self._step()
        super().write(descriptor, data)

    def sync(self, descriptor):
        self._step()

    def rename(self, source, target):
        self._step()
        super().rename(source, target)

    def remove(self, path):
        self._step()
        super().remove(path)


@pytest.mark.parametrize("cut", [False, True], ids=["full", "cut"])
def test_a_failing_disk_leaves_the_whole_artifact_or_nothing(tmp_path, conv_graph, planned, cut):
    plan, tensors = planned(conv_graph)
    found = []
    for at in range(17):
        out = tmp_path / f"out-{at}"
        try:
            problems = write_artifact(FailingDisk(at, cut), out, conv_graph, plan, tensors, REPORT)
        except KeyboardInterrupt:
            problems = None
        if out.exists():
            assert verify(out) == []
        elif not cut:
            assert numbers(problems) == ["QR905"]
        found.append(out.exists())
        assert write_artifact(Disk(), out, conv_graph, plan, tensors, REPORT, replace=True) == []
    assert set(found) == {False, True}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_recipes_from_outside_the_folder_are_placed_inside():
    placed = recipe_files({"a.q": "1", "lib/a.q": "2", "/etc/a.q": "3", "../a.q": "4", "..": "5"})
    assert all(is_artifact_path(name) for name in placed)
    assert sorted(placed.values()) == [b"1", b"2", b"3", b"4", b"5"]
    assert placed["recipe/lib/a.q"] == b"2"

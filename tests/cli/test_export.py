"""``export`` and ``verify --weights`` as a user calls them."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from qcompile.cli.export_command import SUFFIXES
from qcompile.cli.main import main
from qcompile.interop.capability import CAPABILITIES
from qcompile.policy.scheme import IntFormat, PerChannel, QuantSlot
from tests.driver.project import FACTORIES, RECIPE, make_project
from tests.interop.exporting import normal, quantized
from tests.tiny_models import Mlp, seeded

W4 = QuantSlot(format=IntFormat(bits=4, signed=True), symmetric=True, granularity=PerChannel())


def called(*arguments):
    done = CliRunner().invoke(main, [str(item) for item in arguments])
    return done.exit_code, done.output


@pytest.fixture
def made(tmp_path):
    found = quantized(seeded(Mlp()), (normal(2, 8),), W4, None)
    found.written_to(tmp_path / "out")
    return found


def test_formats_and_suffixes_are_those_of_the_capabilities():
    assert {item.name: item.suffix for item in CAPABILITIES} == SUFFIXES


def test_a_file_is_written_and_its_size_said(tmp_path, made):
    target = tmp_path / "m.onnx"
    status, said = called("export", tmp_path / "out", "--to", "onnx", "-o", target)
    assert (status, target.exists()) == (0, True)
    assert "of onnx" in said
    again = called("export", tmp_path / "out", "--to", "onnx", "-o", target)
    assert (again[0], "QR901" in again[1]) == (1, True)


def test_a_wrong_suffix_and_a_directory_to_replace_are_usage_errors(tmp_path, made):
    out = tmp_path / "out"
    assert called("export", out, "--to", "onnx", "-o", tmp_path / "m.pt2")[0] == 2
    directory = ("--to", "compressed-tensors", "-o", tmp_path / "ct", "--replace")
    assert called("export", out, *directory)[0] == 2


def test_a_format_that_cannot_hold_the_plan_is_refused_with_its_code(tmp_path, made):
    target = tmp_path / "m.gguf"
    status, said = called("export", tmp_path / "out", "--to", "gguf", "-o", target)
    assert (status, "QR550" in said, target.exists()) == (1, True, False)


def test_plan_is_held_to_the_formats_that_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = make_project(tmp_path, RECIPE)
    held = called("plan", recipe, "--for", "pt2", "--for", "onnx", "-o", "plan.json")
    assert (held[0], Path("plan.json").exists()) == (0, True), held[1]
    refused = called("plan", recipe, "--for", "onnx", "--for", "gguf", "-o", "other.json")
    assert (refused[0], Path("other.json").exists()) == (1, False)
    assert "`gguf` cannot hold quantized activations" in refused[1]
    assert "decided by `use w4a8 for conv or linear`" in refused[1]
    preview = called("plan", recipe, "--for", "gguf", "--preview")
    assert (preview[0], "QR550" in preview[1]) == (1, True)
    assert called("plan", recipe, "--for", "tflite")[0] == 2


def test_plan_names_the_operations_that_onnx_cannot_express(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = make_project(tmp_path, RECIPE)
    assert FACTORIES.count("x.mean((2, 3))") == 1
    changed = FACTORIES.replace("x.mean((2, 3))", "x.cumprod(2).mean((2, 3))")
    (tmp_path / "factories.py").write_text(changed)
    assert called("plan", recipe, "--for", "pt2")[0] == 0
    status, said = called("plan", recipe, "--for", "onnx", "--json")
    codes = [item["code"] for item in json.loads(said)["diagnostics"]]
    assert (status, codes.count("QR551")) == (1, 1)


def test_verify_compares_with_the_weights_that_are_given(tmp_path, made):
    weights = tmp_path / "w.safetensors"
    original = {name: value.contiguous() for name, value in made.graph.state_dict().items()}
    save_file(original, weights)
    status, said = called("verify", tmp_path / "out", "--weights", weights)
    assert (status, "have the bytes of the weights" in said) == (0, True)
    save_file(original | {"fc1.bias": torch.zeros(16)}, weights)
    assert called("verify", tmp_path / "out", "--weights", weights)[0] == 4

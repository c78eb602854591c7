"""`output { format; target }`: judged with the plan, written by the run, obeyed by `load`."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import qcompile
from qcompile.cli.main import main
from qcompile.cli.plan_view import plan_text
from qcompile.compat.cpu_features import multiplies_bytes
from qcompile.diagnostics.failure import CompileError
from qcompile.driver import run as run_module
from qcompile.driver.asked_exports import place_of
from qcompile.driver.load import verify
from qcompile.driver.plan import plan_recipe
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from qcompile.driver.saved_plan import read_plan, save_plan
from qcompile.interop.capability import CAPABILITIES
from qcompile.policy.lower_output import EXPORTS
from qcompile.policy.scheme import IntFormat, PerChannel, QuantSlot
from qcompile.store.disk import Disk
from tests.driver.project import FACTORIES, RECIPE, make_project
from tests.interop.exporting import normal, quantized
from tests.tiny_models import Mlp, seeded

QUIET = RunOptions(work=Path("state"))
ALL = "[" + ", ".join(f'"{name}"' for name in EXPORTS) + "]"
MATRIX = """
qrecipe 1
model "factories:matrix" { input = float32[batch, 64] }
scheme w4 { weight int4 symmetric per_channel }
policy main { use w4 for linear }
"""
MATRICES = f"""{FACTORIES}

def matrix(factor=1.0):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16)).eval()
    with torch.no_grad():
        model[0].weight.mul_(factor)
    return model


def huge():
    return matrix(1e9)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def made(recipe, *lines):
        path = make_project(tmp_path, recipe + "".join(f"{line}\n" for line in lines))
        (tmp_path / "factories.py").write_text(MATRICES)
        return path

    return made


def problems(call, *arguments):
    with pytest.raises(CompileError) as caught:
        call(*arguments)
    return [(p.code.number, p.primary and p.primary.span.text) for p in caught.value.diagnostics]


def kernels_missing(recipe):
    return [p for p in plan_recipe(recipe).diagnostics if p.code.number == "QR507"]


def below(folder="."):
    return sorted(path.name for path in Path(folder).iterdir())


class FullDisk(Disk):
    """No room for a file of this suffix."""

    def __init__(self, suffix):
        self.suffix = suffix

    def create(self, path):
        if path.suffix == self.suffix:
            raise OSError(28, "No space left on device")
        return super().create(path)


def test_the_language_names_the_formats_that_there_are():
    assert {item.name for item in CAPABILITIES} == set(EXPORTS)


def test_every_format_is_written_beside_the_artifact_as_export_writes_it(project):
    recipe = project(MATRIX, f'output {{ dir = "build/net.v1"; format = {ALL} }}')
    Path("again").mkdir()
    done = run_subject(recipe, None, QUIET)
    assert below("build") == ["net.v1", *sorted(f"net.v1.{name}" for name in EXPORTS)]
    assert [one.format for one in done.exports] == list(EXPORTS)
    assert verify(done.output) == []
    for one in done.exports:
        again = qcompile.export(done.output, one.format, Path("again") / one.format)
        assert one.bytes == again.bytes > 0
        if one.path.is_file():
            assert one.path.read_bytes() == again.path.read_bytes()


def test_the_artifact_is_the_same_whatever_is_made_of_it(project):
    plain = run_subject(project(MATRIX), Path("a"), QUIET)
    asked = 'output { format = ["fx", "onnx", "onnx"]; target = "cpu-int4" }'
    other = run_subject(project(MATRIX, asked), Path("b"), QUIET)
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()
    assert (plain.exports, [one.path.name for one in other.exports]) == ((), ["b.onnx"])


def test_what_a_format_cannot_hold_is_refused_with_the_plan(project):
    recipe = project(RECIPE, 'output { format = ["pt2", "gguf"] }')
    found = problems(plan_recipe, recipe)
    assert set(found) == {("QR550", '["pt2", "gguf"]')}
    with pytest.raises(CompileError):
        plan_recipe(recipe, preview=True)
    assert plan_recipe(project(RECIPE, 'output { format = "pt2" }')).plan is not None


def test_an_operation_that_onnx_has_not_is_refused_with_the_plan(project, tmp_path):
    recipe = project(RECIPE, 'output { format = "onnx" }')
    changed = FACTORIES.replace("x.mean((2, 3))", "x.cumprod(2).mean((2, 3))")
    (tmp_path / "factories.py").write_text(changed)
    assert problems(plan_recipe, recipe) == [("QR551", '"onnx"')]


def test_layers_without_a_kernel_on_the_target_are_named_by_the_plan(project):
    w4 = 'output { target = "x86-int8" }'
    found = kernels_missing(project(MATRIX, w4))
    assert [problem.primary.span.text for problem in found] == ['"x86-int8"']
    assert kernels_missing(project(MATRIX, 'output { target = "cpu-int4" }')) == []
    assert len(kernels_missing(project(MATRIX, w4, 'target "x86-int8"'))) == 1  # said once
    assert len(kernels_missing(project(MATRIX, w4, 'target "cuda-int8"'))) == 2


def test_the_plan_records_what_is_asked_for_and_shows_it(project):
    asked = 'output { format = ["onnx", "pt2"]; target = "cpu-int4" }'
    made = plan_recipe(project(MATRIX, asked)).plan
    assert (made.beside.output.formats, made.beside.output.target) == (("onnx", "pt2"), "cpu-int4")
    save_plan(made, Path("plan.json"))
    assert read_plan(Path("plan.json")) == made
    shown = plan_text(made)
    assert "exported beside the artifact: onnx, pt2" in shown
    assert "loaded for cpu-int4 by default" in shown
    plain = plan_text(plan_recipe(project(MATRIX)).plan)
    assert "beside the artifact" not in plain
    assert "by default" not in plain


@pytest.mark.parametrize("taken", ["out.onnx", "out.compressed-tensors"])
def test_a_taken_name_is_refused_before_anything_is_done(project, taken):
    recipe = project(MATRIX, 'output { format = ["onnx", "compressed-tensors"] }')
    if taken.endswith(".onnx"):
        Path(taken).write_text("mine")
    else:
        Path(taken).mkdir()
        (Path(taken) / "mine").write_text("mine")
    assert problems(run_subject, recipe, Path("out"), QUIET) == [("QR901", None)]
    assert [name for name in below() if name.startswith(("out", "state"))] == [taken]


def test_replace_replaces_files_of_exports_and_never_other_directories(project):
    recipe = project(MATRIX, 'output { format = "onnx" }')
    run_subject(recipe, Path("out"), QUIET)
    Path("out.onnx").write_text("old")
    again = replace(QUIET, replace=True)
    run_subject(recipe, Path("out"), again)
    assert Path("out.onnx").read_bytes() != b"old"
    other = project(MATRIX, 'output { format = "compressed-tensors" }')
    run_subject(other, Path("out"), again)
    assert problems(run_subject, other, Path("out"), again) == [("QR901", None)]


def test_an_export_that_fails_keeps_the_artifact_and_the_other_exports(project):
    recipe = project(MATRIX, 'output { format = ["pt2", "onnx"] }')
    full = replace(QUIET, disk=FullDisk(".pt2"))
    assert problems(run_subject, recipe, Path("out"), full) == [("QR905", None)]
    assert verify(Path("out")) == []
    assert [name for name in below() if "out" in name] == ["out", "out.onnx"]
    assert below("state") == []  # there is nothing to resume


def test_weights_that_turn_out_not_to_fit_a_format_are_its_code(project):
    recipe = project(MATRIX.replace(":matrix", ":huge"), 'output { format = "gguf" }')
    assert problems(run_subject, recipe, Path("out"), QUIET) == [("QR550", None)]
    assert verify(Path("out")) == []
    assert not Path("out.gguf").exists()


def test_run_says_what_it_wrote(project):
    recipe = project(MATRIX, 'output { format = "onnx" }')
    done = CliRunner().invoke(main, ["run", str(recipe), "-o", "out", "-q"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1].startswith("out.onnx   ")
    assert done.output.splitlines()[-1].endswith("of onnx")


@pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")
def test_load_takes_the_target_of_the_recipe_and_that_of_the_call_wins(project):
    recipe = project(RECIPE, 'output { target = "x86-int8" }')
    made = qcompile.run(plan_recipe(recipe).plan, "out")
    x = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    by_default, named = qcompile.load("out"), qcompile.load("out", target="x86-int8")
    targets = {str(node.target) for node in by_default.graph.nodes}
    assert any("onednn" in target for target in targets)
    assert torch.equal(by_default(x), named(x))
    simulated = qcompile.load("out", target="simulate")
    assert not any("onednn" in str(node.target) for node in simulated.graph.nodes)
    assert torch.equal(simulated(x), made(x))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the target can run here")
def test_a_target_that_cannot_run_here_is_said_and_simulate_is_possible(project):
    recipe = project(MATRIX, 'output { target = "cuda-int8" }')
    run_subject(recipe, Path("out"), QUIET)  # made here, for another machine
    with pytest.raises(CompileError) as caught:
        qcompile.load("out")
    (problem,) = caught.value.diagnostics
    assert problem.code.number == "QR541"
    assert problem.notes == (
        "this torch sees no CUDA device",
        "the recipe of the artifact asks for this target; `load(..., target=)` names another",
    )
    assert "simulate" in problem.help
    assert qcompile.load("out", target="simulate")(torch.ones(1, 64)).shape == (1, 16)
    with pytest.raises(CompileError) as caught:
        qcompile.load("out", target="cuda-int8")
    assert caught.value.diagnostics[0].notes == ("this torch sees no CUDA device",)


def test_a_plan_cannot_make_load_open_a_file(tmp_path):
    w4 = QuantSlot(format=IntFormat(bits=4, signed=True), symmetric=True, granularity=PerChannel())
    found = quantized(seeded(Mlp()), (normal(2, 8),), w4, None)
    beside = found.plan.beside
    output = beside.output.model_copy(update={"target": str(tmp_path / "secret.json")})
    plan = found.plan.model_copy(update={"beside": beside.model_copy(update={"output": output})})
    replace(found, plan=plan).written_to(tmp_path / "out")
    with pytest.raises(CompileError) as caught:
        qcompile.load(tmp_path / "out")
    assert [p.code.number for p in caught.value.diagnostics] == ["QR201"]
    assert qcompile.load(tmp_path / "out", target="simulate") is not None


def test_an_export_lies_beside_the_artifact_however_it_is_named(tmp_path, monkeypatch):
    assert place_of(Path("build/net.v1"), "onnx") == Path("build/net.v1.onnx")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert place_of(Path(), "pt2") == tmp_path / "here.pt2"


def test_reports_are_written_beside_the_artifact(project):
    path = project(MATRIX, 'output { report = ["html", "json", "markdown"] }')
    planned = plan_recipe(path)
    assert planned.plan.beside.output.reports == ("html", "markdown")
    assert "reported beside the artifact: html, markdown" in plan_text(planned.plan)
    run_subject(project(MATRIX, 'output { report = ["html", "markdown"] }'), Path("o.v1"), QUIET)
    assert sorted(p.name for p in Path().glob("o.*")) == ["o.v1", "o.v1.html", "o.v1.md"]
    assert Path("o.v1.md").read_text().startswith("### qcompile run: net.qrecipe")
    assert Path("o.v1.html").read_text().startswith("<!DOCTYPE html>")


def test_a_report_takes_no_name_that_is_taken(project):
    path = project(MATRIX, 'output { report = "markdown" }')
    Path("out.md").write_text("mine")
    with pytest.raises(CompileError) as caught:
        run_subject(path, Path("out"), QUIET)
    assert [d.code.number for d in caught.value.diagnostics] == ["QR901"]
    assert Path("out.md").read_text() == "mine"
    assert not Path("out").exists()
    run_subject(path, Path("out"), replace(QUIET, replace=True))
    assert Path("out.md").read_text().startswith("###")


def test_a_name_that_is_taken_during_the_run_stays_as_it_is(project, monkeypatch):
    path = project(MATRIX, 'output { report = ["html", "markdown"] }')
    publish = run_module._publish

    def slow(*arguments):
        publish(*arguments)
        Path("out.html").write_text("mine")

    monkeypatch.setattr(run_module, "_publish", slow)
    with pytest.raises(CompileError) as caught:
        run_subject(path, Path("out"), QUIET)
    (problem,) = caught.value.diagnostics
    assert problem.code.number == "QR901"
    assert "qcompile report out --format html -o FILE" in problem.help
    assert Path("out.html").read_text() == "mine"
    assert Path("out.md").read_text().startswith("###")
    assert verify(Path("out")) == []


def test_a_run_says_which_reports_it_wrote(project):
    path = project(MATRIX, 'output { report = "markdown" }')
    result = CliRunner().invoke(main, ["run", "-q", str(path), "-o", "out"])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == "out.md"


@pytest.mark.parametrize("place", ["/", "x" * 251])
def test_a_place_that_has_no_room_for_a_report_is_refused(project, place):
    path = project(MATRIX, 'output { report = "html" }')
    result = CliRunner().invoke(main, ["run", "-q", str(path), "-o", place])
    assert result.exit_code == 1
    assert "QR901" in result.output
    assert "internal error" not in result.output

"""A run is exact, resumable and reproducible."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import qcompile
from qcompile.data.source_kinds import MemorySource
from qcompile.driver import identity
from qcompile.driver.plan import plan_recipe
from qcompile.driver.progress import StopRequestedError
from qcompile.driver.run import execute, run_subject
from qcompile.driver.run_options import RunOptions
from tests.driver.project import FACTORIES, RECIPE, make_project

QUIET = RunOptions(work=Path("state"))


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path)


def files(folder):
    found = {
        p.relative_to(folder): p.read_bytes()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file()
    }
    found.pop(Path("report.json"))
    return found


def test_two_runs_of_one_plan_are_equal_to_the_byte(recipe):
    run_subject(recipe, Path("a"), QUIET)
    run_subject(recipe, Path("b"), QUIET)
    assert files("a") == files("b")


def test_report_proves_the_sums_of_the_codes_within_those_of_the_formats(recipe):
    done = run_subject(recipe, Path("a"), QUIET)
    found = json.loads(Path("a/report.json").read_text())["integer_sums"]
    planned = {one.site: one for one in done.plan.beside.graph.accumulators}
    assert [one["site"] for one in found] == list(planned)
    for one in found:
        before = planned[one["site"]]
        assert before.low <= one["low"] < 0 < one["high"] <= before.high
        assert one["bits"] <= before.bits


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_stopped_run_continues_to_the_same_bytes(recipe, stop_after):
    run_subject(recipe, Path("whole"), QUIET)
    seen = []

    def listener(moment):
        seen.append(moment.site)

    options = RunOptions(
        work=Path("state"), listener=listener, should_stop=lambda: len(seen) >= stop_after
    )
    with pytest.raises(StopRequestedError):
        run_subject(recipe, Path("broken"), options)
    assert not Path("broken").exists()
    again = []
    resumed = RunOptions(work=Path("state"), listener=lambda m: again.append(m.site))
    run_subject(recipe, Path("broken"), resumed)
    assert files("whole") == files("broken")
    assert len(again) < 5  # the sites of committed units were not done again
    assert not list(Path("state").iterdir())


def test_fresh_run_does_everything_again(recipe):
    seen = []
    stop = RunOptions(work=Path("state"), should_stop=lambda: len(seen) > 3, listener=seen.append)
    with pytest.raises(StopRequestedError):
        run_subject(recipe, Path("a"), stop)
    sites = []
    fresh = RunOptions(work=Path("state"), fresh=True, listener=lambda m: sites.append(m.site))
    run_subject(recipe, Path("a"), fresh)
    assert len(sites) == 5


def test_skipped_tensors_keep_the_bytes_of_the_source(recipe):
    run_subject(recipe, Path("out"), QUIET)
    stored = load_file("out/model.safetensors")
    scope: dict = {}
    exec(FACTORIES, scope)
    source = scope["net"]().state_dict()
    for name in ("head.weight", "head.bias", "blocks.0.conv1.bias", "blocks.1.conv2.bias"):
        assert stored[name].numpy().tobytes() == source[name].numpy().tobytes()
    assert "blocks.0.conv1.weight" not in stored
    assert stored["blocks.0.conv1.weight:codes"].dtype == torch.uint8


def test_skip_takes_a_layer_out_of_folding(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = make_project(tmp_path, RECIPE.replace('skip "head"', 'skip "conv" or "head"'))
    run_subject(path, Path("out"), QUIET)
    stored = load_file("out/model.safetensors")
    scope: dict = {}
    exec(FACTORIES, scope)
    source = scope["net"]().state_dict()
    for name in ("conv.weight", "bn.weight", "bn.running_var", "bn.num_batches_tracked"):
        assert stored[name].numpy().tobytes() == source[name].numpy().tobytes()


def test_saved_plan_runs_and_artifact_loads_without_the_users_code(recipe):
    made = plan_recipe(recipe)
    done = execute(made, Path("out"), QUIET)
    x = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(9))
    here = qcompile.load("out")(x)
    code = (
        "import torch, qcompile;"
        "x = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(9));"
        "print(qcompile.load('out')(x).flatten().tolist())"
    )
    Path("factories.py").unlink()
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert torch.tensor(eval(there)).equal(here.flatten())
    assert done.plan.core.bytes_after == made.plan.core.bytes_after


def test_quantized_output_is_near_the_float_model(recipe):
    run_subject(recipe, Path("out"), QUIET)
    scope: dict = {}
    exec(FACTORIES, scope)
    x = scope["data"]()
    wanted, found = scope["net"]()(x), qcompile.load("out")(x)
    error = ((found - wanted).square().sum() / wanted.square().sum()).item()
    assert 0 < error < 0.05  # 4-bit weights: about one part in a hundred, never exact


def test_python_api_takes_objects(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(FACTORIES, scope)
    recipe = qcompile.load_recipe(make_project(tmp_path))
    model = scope["net"]()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    data = scope["data"]()
    bound = qcompile.bind(recipe, model, (data[:2],))
    plan = qcompile.plan(bound, data)
    module = qcompile.run(plan, "out", bound=bound, data=data)
    assert isinstance(module, torch.fx.GraphModule)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    [accuracy] = qcompile.evaluate("out", root=tmp_path)
    assert accuracy.metric == "top1"
    assert accuracy.samples == 48
    [again] = qcompile.evaluate(
        module, data="factories:labelled", metrics=["top1"], labels="label", root=tmp_path
    )
    assert again.value == accuracy.value


def test_plan_does_not_depend_on_the_working_directory_or_hash_seed(recipe, tmp_path):
    code = (
        "from pathlib import Path; from qcompile.driver.plan import plan_recipe;"
        f"print(plan_recipe(Path({recipe.name!r})).plan.model_dump_json())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin"},
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1


def test_memory_source_is_what_a_tensor_becomes():
    assert len(MemorySource(torch.zeros(3, 2))) == 3


def test_run_from_python_trusts_what_the_plan_was_made_with(tmp_path, monkeypatch):
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "shelf.py").write_text(FACTORIES)
    (tmp_path / "mine").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "vendor")
    monkeypatch.chdir(tmp_path / "mine")
    path = make_project(tmp_path / "mine", RECIPE.replace("factories:net", "shelf:net"))
    trusted = frozenset({"shelf"})
    made = qcompile.plan(qcompile.bind(qcompile.load_recipe(path), trusted=trusted))
    with pytest.raises(qcompile.CompileError) as refused:
        qcompile.run(made, "out", options=QUIET)
    assert [d.code.number for d in refused.value.diagnostics] == ["QR520"]
    qcompile.run(made, "out", options=QUIET, trusted=trusted)
    assert Path("out/manifest.json").exists()


def test_identity_of_a_run_tells_how_bf16_is_multiplied(recipe, monkeypatch):
    made = plan_recipe(recipe).plan
    found = []
    for fast in (False, True):
        monkeypatch.setattr(identity, "fast_bf16", lambda device, fast=fast: fast)
        found.append(identity.run_identity(made, torch.device("cpu")))
    assert [one["fast_bf16"] for one in found] == ["false", "true"]

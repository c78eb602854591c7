"""A preview decides what the plan will decide, without weights and without data."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import qcompile
from qcompile.cli.main import main
from qcompile.data.model_source import empty, load_empty_model
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.plan import plan_recipe
from qcompile.driver.recipes import recipe_path
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from qcompile.driver.saved_plan import save_plan
from tests.driver.project import FACTORIES, RECIPE, make_project
from tests.tiny_models import SharedNet


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["resnet20-w4a8", "vit_small-w4a8"])
def test_preview_decides_as_the_plan_does(name):
    whole = plan_recipe(recipe_path(name)).plan.core
    early = plan_recipe(recipe_path(name), preview=True).plan.core
    assert early.weights_sha256 is None
    assert early.data is None
    assert (
        early.model_copy(update={"weights_sha256": whole.weights_sha256, "data": whole.data})
        == whole
    )


def test_preview_reads_neither_weights_nor_data(folder):
    recipe = RECIPE.replace(
        '"factories:net"',
        '"factories:net" { weights = "gone.safetensors"; input = float32[n, 1, 6, 6] }',
    ).replace("factories:data", "nowhere:data")
    core = plan_recipe(make_project(folder, recipe), preview=True).plan.core
    assert [site.scheme for site in core.sites if site.kind == "conv"] == ["w4a8"] * 5


def test_preview_is_refused_by_run(folder):
    recipe = make_project(folder)
    save_plan(plan_recipe(recipe, preview=True).plan, Path("preview.json"))
    with pytest.raises(CompileError) as refused:
        run_subject(Path("preview.json"), Path("out"), RunOptions(work=Path("state")))
    assert [d.code.number for d in refused.value.diagnostics] == ["QR720"]
    bound = qcompile.bind(qcompile.load_recipe(recipe), preview=True)
    with pytest.raises(CompileError) as refused:
        qcompile.run(qcompile.plan(bound), "out", bound=bound)
    assert [d.code.number for d in refused.value.diagnostics] == ["QR720"]
    assert not Path("out").exists()
    assert not Path("state").exists()


def test_plan_that_is_no_preview_runs(folder):
    recipe = make_project(folder)
    save_plan(plan_recipe(recipe).plan, Path("plan.json"))
    run_subject(Path("plan.json"), Path("out"), RunOptions(work=Path("state")))
    assert Path("out/manifest.json").exists()


def test_saved_preview_can_be_shown(folder):
    recipe = make_project(folder)
    assert (
        CliRunner().invoke(main, ["plan", str(recipe), "--preview", "-o", "p.json"]).exit_code == 0
    )
    shown = CliRunner().invoke(main, ["show", "p.json"])
    assert shown.stdout.startswith("qcompile preview")
    document = json.loads(CliRunner().invoke(main, ["show", "p.json", "--json"]).stdout)
    assert document["plan"]["core"]["weights_sha256"] is None


def test_factory_that_needs_values_is_built_with_them(folder):
    factories = FACTORIES + (
        "\n\ndef pruned():\n    model = net()\n"
        "    assert model.head.weight.abs().sum().item() > 0\n    return model\n"
    )
    path = make_project(folder, RECIPE.replace("factories:net", "factories:pruned"))
    Path("factories.py").write_text(factories)
    planned = plan_recipe(path, preview=True)
    assert all(tensor.is_meta for tensor in planned.bound.model.state_dict().values())


def test_constants_of_the_users_module_are_real(folder):
    make_project(folder)
    Path("constants.py").write_text(
        "import torch\nfrom factories import net\nTABLE = torch.ones(3)\n\n\ndef build():\n"
        "    return net()\n\n\ndef table():\n    return torch.nn.ParameterList([TABLE])\n"
    )
    load_empty_model("constants:build", root=folder)
    loaded, _ = load_empty_model("constants:table", root=folder)
    assert loaded is not None
    from qcompile.data.model_source import load_model

    again, _ = load_model("constants:table", root=folder)
    assert again is not None
    assert torch.equal(again.module[0], torch.ones(3))


def test_empty_model_keeps_its_ties():
    model = SharedNet()
    tied = nn.Module()
    tied.a = nn.Linear(4, 4)
    tied.b = nn.Linear(4, 4)
    tied.b.weight = tied.a.weight
    for module in (model, tied):
        before = len(list(module.parameters()))
        empty(module)
        assert all(parameter.is_meta for parameter in module.parameters())
        assert len(list(module.parameters())) == before
    assert tied.a.weight is tied.b.weight

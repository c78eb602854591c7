"""What gradient learns, from the recipe to the artifact: grids of every kind, biases, offsets."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import qcompile
from qcompile.driver.load import verify
from qcompile.driver.plan import plan_recipe
from qcompile.driver.run import execute, run_subject
from qcompile.driver.run_options import RunOptions
from qcompile.emit.lower.difference import relative
from qcompile.emit.lower.exact import simulation
from qcompile.emit.materialize import materialize
from tests.driver.project import RECIPE, make_project

QUIET = RunOptions(work=Path("state"))
SHORT = "steps = 6; batch = 8"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def made(weight, tune):
        recipe = RECIPE.replace("int4 symmetric per_channel", weight)
        return make_project(tmp_path, f"{recipe}tune {tune}\n")

    return made


@pytest.mark.parametrize(
    ("weight", "tune", "part"),
    [
        ("power3 per_channel", f"nupes {{ {SHORT} }}", "exponent"),
        ("codebook2", f"nupes {{ learn = [rounding, levels]; {SHORT} }}", "levels"),
        ("uint2 asymmetric per_channel", f"blockap {{ {SHORT} }}", "zero_point"),
        ("int2 + int2", f"signround {{ {SHORT} }}", "scale"),
    ],
)
def test_the_artifact_is_what_was_learned(project, weight, tune, part, monkeypatch):
    monkeypatch.setattr("qcompile.passes.reconstruct.best", lambda errors: "learned")
    planned = plan_recipe(project(weight, tune))
    execute(planned, Path("out"), QUIET)
    assert verify("out") == []
    stored = load_file("out/model.safetensors")
    assert any(name.endswith(f":{part}") for name in stored)
    made = materialize(planned.bound.graph, planned.plan.core, stored)
    x = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(3))
    assert torch.equal(simulation(made)(x), qcompile.load("out")(x))
    assert relative(made(x), qcompile.load("out")(x)) < 5e-3
    report = json.loads(Path("out/report.json").read_text())
    kept = [one["kept"] for unit in report["units"] for one in unit["reconstructions"]]
    assert kept
    assert set(kept) == {"learned"}


def test_a_bias_that_gradient_learns_is_named_in_the_plan_and_changes(project, monkeypatch):
    monkeypatch.setattr("qcompile.passes.reconstruct.best", lambda errors: "learned")
    path = project(
        "int4 symmetric per_channel", f"signround {{ learn = [rounding, bias]; {SHORT} }}"
    )
    made = plan_recipe(path)
    named = {one for site in made.plan.core.sites for one in site.refits}
    given = {name: tensor.clone() for name, tensor in made.bound.graph.state_dict().items()}
    assert named
    run_subject(path, Path("out"), QUIET)
    assert verify("out") == []
    stored = load_file("out/model.safetensors")
    for name in {name for name in stored if ":" not in name}:
        assert torch.equal(stored[name], given[name]) == (name not in named), name


def test_gram_is_run_layer_by_layer(project):
    path = project(
        "int2 symmetric per_channel",
        "hybrid { solver = [gram, cd]; steps = 20; variable = weight }",
    )
    run_subject(path, Path("gram"), QUIET)
    assert verify("gram") == []
    run_subject(project("int2 symmetric per_channel", "rtn"), Path("nearest"), QUIET)
    errors = [
        json.loads((Path(name) / "report.json").read_text())["units"][-1]["output_error"]
        for name in ("gram", "nearest")
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
@pytest.mark.parametrize("precision", ["auto", "bf16", "fp32"])
def test_a_model_of_another_type_is_learned_in_it(project, tmp_path, dtype, precision, monkeypatch):
    monkeypatch.setattr("qcompile.passes.reconstruct.best", lambda errors: "learned")
    drop = "learn = [rounding, bias, act_scale]"
    path = project("int3 per_channel", f"qdrop {{ {SHORT}; {drop}; precision = {precision} }}")
    factories = tmp_path / "factories.py"
    own = factories.read_text()
    for made in ("model.eval()", "torch.randn(48, 1, 6, 6, generator=generator)"):
        own = own.replace(f"return {made}", f"return {made}.to(torch.{dtype})")
    factories.write_text(own)
    execute(plan_recipe(path), Path("out"), QUIET)
    assert verify("out") == []
    report = json.loads(Path("out/report.json").read_text())
    notes = [one["note"] for unit in report["units"] for one in unit["reconstructions"]]
    assert notes
    said = f"`precision` has no effect on a model in {dtype}"
    assert all((said in note) == (precision != "auto") for note in notes)
    x = torch.zeros(2, 1, 6, 6, dtype=getattr(torch, dtype))
    assert qcompile.load("out")(x).dtype == x.dtype

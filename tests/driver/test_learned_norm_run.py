"""`learn = norm`, from the recipe to the artifact: said in the plan, in the file, and checked."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import qcompile
from qcompile.analysis.run_seconds import CORRECTING
from qcompile.cli.plan_view import plan_text
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.load import verify
from qcompile.driver.plan import plan_recipe
from qcompile.driver.run import execute
from qcompile.driver.run_forecast import run_forecast
from qcompile.driver.run_options import RunOptions
from qcompile.emit.lower.difference import relative
from qcompile.emit.lower.exact import simulation
from qcompile.emit.materialize import materialize
from qcompile.passes.distribution_correction import STEPS
from tests.driver.project import RECIPE, make_project

QUIET = RunOptions(work=Path("state"))
NORMED = """

class Mixer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.act = nn.ReLU()
        self.down = nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.down(self.act(self.up(self.norm(x))))


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.blocks = nn.Sequential(Mixer(8), Mixer(8))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.conv(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(1))


def normed():
    torch.manual_seed(0)
    return Normed().eval()
"""
TUNE = "brecq{} {{ learn = [rounding, norm]; steps = 12; batch = 8 }}"
IN_BLOCKS = {f"blocks.{n}.norm.{name}" for n in (0, 1) for name in ("weight", "bias")}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def made(tune, model="normed"):
        recipe = RECIPE.replace("factories:net", f"factories:{model}").replace("int4", "int2")
        path = make_project(tmp_path, f"{recipe}tune {tune}\n")
        file = tmp_path / "factories.py"
        file.write_text(file.read_text() + NORMED)
        return path

    return made


def learned(made):
    return {path for unit in made.plan.core.units for path in unit.refits}


def test_the_plan_names_the_norms_of_the_blocks(project):
    made = plan_recipe(project(TUNE.format("")))
    assert learned(made) >= IN_BLOCKS
    text = f"gains and biases of norms learned with their blocks: {len(learned(made))} tensors"
    assert text in plan_text(made.plan)
    part = plan_recipe(project(TUNE.format(' for "blocks.1.**"')))
    assert learned(part) == {path for path in IN_BLOCKS if ".1." in path}
    assert not learned(plan_recipe(project("brecq { steps = 12; batch = 8 }")))


def test_only_the_named_norms_change_and_the_artifact_holds(project, monkeypatch):
    monkeypatch.setattr("qcompile.passes.reconstruct.best", lambda errors: "learned")
    planned = plan_recipe(project(TUNE.format("")))
    execute(planned, Path("out"), QUIET)
    stored = load_file("out/model.safetensors")
    given = {name: value.clone() for name, value in planned.bound.graph.state_dict().items()}
    for name in {name for name in stored if ":" not in name}:
        assert torch.equal(stored[name], given[name]) == (name not in learned(planned)), name
    save_file({name: value.contiguous() for name, value in given.items()}, "float.safetensors")
    assert verify("out", [Path("float.safetensors")]) == []
    made = materialize(planned.bound.graph, planned.plan.core, stored)
    x = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(3))
    assert torch.equal(simulation(made)(x), qcompile.load("out")(x))
    assert relative(made(x), qcompile.load("out")(x)) < 5e-3
    own = planned.bound.graph.state_dict()
    assert all(torch.equal(own[name], value) for name, value in given.items())


@pytest.mark.parametrize(
    ("model", "more"), [("net", ""), ("normed", ' for "blocks.1.**" or "head" or "conv"')]
)
def test_norms_are_asked_for_where_there_are(project, model, more):
    """The batch norm of `net` is folded."""
    path = project(TUNE.format(more), model)
    if model == "normed":
        assert learned(plan_recipe(path)) >= {"blocks.1.norm.weight"}
        return
    with pytest.raises(CompileError) as caught:
        plan_recipe(path)
    (problem,) = [one for one in caught.value.diagnostics if one.is_error]
    assert problem.code.number == "QR405"
    assert problem.message == "no block that is learned has a norm of its own to learn"


CORRECTED = "brecq {{ augment = {}; steps = 12; batch = 8 }}"


def test_inputs_are_corrected_where_a_norm_was_folded(project, monkeypatch):
    """The batch norm of `net` is folded into its first layer; `normed` has none."""
    monkeypatch.setattr("qcompile.passes.reconstruct.best", lambda errors: "learned")
    scales = {}
    for augment in ("none", "distribution_correction"):
        execute(plan_recipe(project(CORRECTED.format(augment), "net")), Path(augment), QUIET)
        assert verify(augment) == []
        scales[augment] = load_file(f"{augment}/model.safetensors")["conv:act.scale"]
    assert not torch.equal(*scales.values())
    with pytest.raises(CompileError) as caught:
        plan_recipe(project(CORRECTED.format("distribution_correction")))
    (problem,) = [one for one in caught.value.diagnostics if one.is_error]
    assert problem.code.number == "QR405"
    assert problem.message.startswith("`distribution_correction` matches batch norms")


def test_the_forecast_counts_the_corrected_inputs(project):
    """With a single batch, so that learning is what takes the most memory."""
    assert CORRECTING == STEPS
    peaks = []
    for name in ("noise(0.1)", "distribution_correction"):
        path = project(CORRECTED.format(name), "net")
        path.write_text(path.read_text().replace("samples = 32", "samples = 8"))
        made = plan_recipe(path)
        peaks.append(run_forecast(made.bound, made.calibration, None).units[0].peak_bytes)
    images, pixels = 8, 6 * 6
    assert peaks[1] - peaks[0] == 4 * images * pixels

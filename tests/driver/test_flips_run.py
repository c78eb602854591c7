"""`flip` of `calibrate`, from the recipe to the run."""

import json
from pathlib import Path

import pytest
import torch

from qcompile.cli.plan_view import plan_text
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.diff import diff
from qcompile.driver.plan import plan_recipe
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from tests.driver.project import RECIPE, make_project

QUIET = RunOptions(work=Path("state"))
DATA = 'data = "factories:data"'
OTHERS = """

def narrow():
    return torch.randn(48, 1, 6, 4)


def grouped():
    return {"x": data(), "source": torch.arange(48) // 3}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def made(lines="flip = horizontal", data=DATA, tune="hybrid"):
        recipe = RECIPE.replace(DATA, f"{data}; {lines}")
        path = make_project(tmp_path, recipe + f"tune {tune}\n")
        with Path(tmp_path, "factories.py").open("a") as file:
            file.write(OTHERS)
        return path

    return made


@pytest.mark.parametrize(("flip", "axis"), [("horizontal", -1), ("vertical", -2)])
def test_each_batch_is_half_of_images_half_of_their_mirror_images(project, flip, axis):
    plain = plan_recipe(project("")).calibration
    found = plan_recipe(project(f"flip = {flip}")).calibration
    drawn = torch.cat([batch["x"] for batch in plain.batches])
    assert found.plan.indices == plain.plan.indices
    assert len(found.batches) == 2 * len(plain.batches)
    for number, batch in enumerate(found.batches):
        images, mirrored = batch["x"].chunk(2)
        assert torch.equal(images, drawn[4 * number : 4 * number + 4])
        assert torch.equal(mirrored, images.flip(axis))


def test_the_plan_says_so_and_one_without_does_not(project):
    plan = plan_recipe(project()).plan
    assert plan.core.data.flip == "horizontal"
    assert f"{plan.core.data.samples} and their mirror images" in plan_text(plan)
    without = plan_recipe(project("")).plan
    assert "flip" not in json.loads(without.model_dump_json())["core"]["data"]
    assert "mirror" not in plan_text(without)
    assert plan.core_sha256 != without.core_sha256


def test_mirror_images_change_what_is_fitted(project):
    for name, lines in (("plain", ""), ("flipped", "flip = horizontal")):
        run_subject(project(lines), Path(name), QUIET)
    plain, flipped = (Path(name, "model.safetensors").read_bytes() for name in ("plain", "flipped"))
    assert len(plain) == len(flipped)
    assert plain != flipped


def test_a_group_judges_with_its_mirror_images(project):
    data = 'data = "factories:grouped"; groups = "source"'
    found = plan_recipe(project(data=data)).calibration
    sources = [index // 3 for index in found.plan.indices]
    held = found.plan.groups.judging_samples
    assert set(sources[-held:]).isdisjoint(sources[:-held])
    judged = sum(len(batch["x"]) for batch in found.batches[-found.judging :])
    assert judged == 2 * held


def test_a_forecast_counts_them(project):
    one, two = (
        plan_recipe(project(lines), forecast=True).plan.beside.forecast
        for lines in ("", "flip = horizontal")
    )
    assert two.samples == 2 * one.samples
    assert two.seconds > one.seconds
    preview = plan_recipe(project(), forecast=True, preview=True).plan.beside.forecast
    assert preview.samples == two.samples


def test_channels_that_are_the_last_axis_are_not_mirrored(project):
    with pytest.raises(CompileError) as caught:
        plan_recipe(project(data='data = "factories:narrow"'))
    (problem,) = caught.value.diagnostics
    assert problem.code.number == "QR718"
    assert problem.message == "`factories:narrow` has no images to flip: `0` [4, 1, 6, 4]"


def test_a_difference_of_two_recipes_names_it(project):
    first = project().rename("flipped.qrecipe")
    second = project("")
    found = diff(str(first), str(second))
    assert [change.name for change in found.settings] == ["data.flip"]

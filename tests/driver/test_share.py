"""`share scale`: operands that meet in one operation are quantized on one grid."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import qcompile
from qcompile.compat.quantize_to_bytes import quantize_to_floats
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.load import verify
from qcompile.driver.plan import plan_recipe
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from qcompile.emit.artifact import write_artifact
from qcompile.quant.fake_quantize import fake_quantize
from qcompile.store.disk import Disk
from tests.driver.project import RECIPE, make_project

QUIET = RunOptions(work=Path("state"))
QUANTIZED = RECIPE.replace("use w4a8 for conv or linear", "use w4a8 for conv or linear or add")
SHARED = QUANTIZED.replace('skip "head"', 'skip "head"\n  share scale for inputs_of(add)')
ADDS = ("blocks.0.add", "blocks.1.add")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda recipe: make_project(tmp_path, recipe)


def scales(folder):
    stored = load_file(f"{folder}/model.safetensors")
    return {name: tensor for name, tensor in stored.items() if ":act" in name}


def test_operands_of_each_addition_get_one_grid_and_no_other_does(project):
    run_subject(project(QUANTIZED), Path("apart"), QUIET)
    run_subject(project(SHARED), Path("together"), QUIET)
    apart, together = scales("apart"), scales("together")
    assert apart.keys() == together.keys()
    for add in ADDS:
        for field in ("scale", "zero_point"):
            assert torch.equal(together[f"{add}:act.{field}"], together[f"{add}:act2.{field}"])
        assert not torch.equal(apart[f"{add}:act.scale"], apart[f"{add}:act2.scale"])
    one, two = (together[f"{add}:act.scale"] for add in ADDS)
    assert not torch.equal(one, two)
    assert torch.equal(together["blocks.0.conv1:act.scale"], apart["blocks.0.conv1:act.scale"])


def test_one_range_covers_the_values_of_all_operands(project):
    """With `minmax` the joint grid spans both operands: its step is of the union of the ranges."""
    minmax = RECIPE.replace("act uint8 asymmetric per_tensor", "act uint8 observer=minmax")
    both = minmax.replace("use w4a8 for conv or linear", "use w4a8 for add")
    rule = 'skip "head"\n  share scale for inputs_of(add)'
    run_subject(project(both), Path("apart"), QUIET)
    run_subject(project(both.replace('skip "head"', rule)), Path("together"), QUIET)
    apart, joint = scales("apart"), scales("together")
    add = ADDS[0]

    def span(found, slot):
        scale = found[f"{add}:{slot}.scale"].double()
        zero = found[f"{add}:{slot}.zero_point"].double()
        return float(-zero * scale), float((255 - zero) * scale)

    lows, highs = zip(span(apart, "act"), span(apart, "act2"), strict=True)
    step = float(joint[f"{add}:act.scale"])
    low, high = span(joint, "act")
    assert low == pytest.approx(min(lows), abs=step)
    assert high == pytest.approx(max(highs), abs=step)


def test_a_learned_scale_stays_shared(project):
    learning = SHARED + "tune brecq { steps = 8; batch = 8 }\n"
    run_subject(project(learning), Path("learned"), QUIET)
    found = scales("learned")
    for add in ADDS:
        assert torch.equal(found[f"{add}:act.scale"], found[f"{add}:act2.scale"])
    assert verify("learned") == []


def test_the_plan_names_the_line_and_the_loaded_model_computes_with_it(project):
    made = plan_recipe(project(SHARED))
    shared = [t.shared_by for s in made.plan.core.sites for t in s.tensors if t.shared_by]
    assert len(shared) == 4
    assert {ref.text for ref in shared} == {"share scale for inputs_of(add)"}
    assert {ref.file for ref in shared} == {"net.qrecipe"}
    run_subject(project(SHARED), Path("out"), QUIET)
    targets = [node.target for node in qcompile.load("out").graph.nodes]
    assert targets.count(fake_quantize) == 4
    assert targets.count(quantize_to_floats) == 5


def test_verify_finds_scales_that_are_not_equal(project):
    """Even where every hash fits: the artifact is judged by its plan."""
    path = project(SHARED)
    run_subject(path, Path("out"), QUIET)
    planned = plan_recipe(path)
    tensors = dict(load_file("out/model.safetensors"))
    name = f"{ADDS[0]}:act2.scale"
    write_artifact(Disk(), Path("same"), planned.bound.graph, planned.plan, tensors, {})
    tensors[name] = tensors[name] * 2
    write_artifact(Disk(), Path("forged"), planned.bound.graph, planned.plan, tensors, {})
    assert verify("same") == []
    (problem,) = verify("forged")
    assert problem.code.number == "QR910"
    assert f"`{name}` and `{ADDS[0]}:act.scale` differ" in problem.message


def test_a_later_line_takes_operands_from_an_earlier_one(project):
    line = "share scale for inputs_of(add)"
    path = project(SHARED.replace(line, f'{line}\n  share scale for "act" or "blocks.0.**"'))
    core = plan_recipe(path).plan.core
    lines = {
        site.key: {t.shared_by.line for t in site.tensors}
        for site in core.sites
        if "add" in site.key
    }
    assert lines == {ADDS[0]: {11}, ADDS[1]: {10}}


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (SHARED.replace(" or add", ""), "are float"),
        (SHARED.replace("inputs_of(add)", '"blocks.0.conv1"'), "no operation reads two"),
        (SHARED.replace("asymmetric per_tensor", "per_token"), "found at run time"),
    ],
)
def test_what_cannot_share_is_refused_with_the_reason(project, recipe, reason):
    with pytest.raises(CompileError) as caught:
        plan_recipe(project(recipe))
    assert {d.code.number for d in caught.value.diagnostics} == {"QR312"}
    assert reason in caught.value.diagnostics[0].message


@pytest.mark.parametrize(("line", "code"), [("act2 uint4", "QR503"), ("act2 float", "QR312")])
def test_operands_of_an_addition_in_two_formats_are_refused_before_they_could_share(
    project, line, code
):
    with pytest.raises(CompileError) as caught:
        plan_recipe(project(SHARED.replace("  act uint8", f"  {line}\n  act uint8")))
    assert {d.code.number for d in caught.value.diagnostics} == {code}


def test_a_share_that_selects_nothing_is_refused_like_any_rule(project):
    with pytest.raises(CompileError) as caught:
        plan_recipe(project(SHARED.replace("inputs_of(add)", '"blokcs.**"')))
    assert [d.code.number for d in caught.value.diagnostics] == ["QR301"]

"""Scales of both signs, from the recipe to the artifact."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import qcompile
from qcompile.audit.audit import audit
from qcompile.driver.plan import plan_recipe
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from tests.driver.project import RECIPE, make_project

QUIET = RunOptions(work=Path("state"), replace=True)
PER_CHANNEL = "weight int4 symmetric per_channel"
SIGNED = RECIPE.replace(PER_CHANNEL, "weight int4 symmetric per_group(9) observer=signed_mse")
LEARNED = "genie { steps = 4; batch = 8 }"


@pytest.mark.parametrize("tune", ["rtn", "rtn_gram", "hybrid", LEARNED])
def test_groups_are_turned_and_every_promise_is_kept(tmp_path, monkeypatch, tune):
    monkeypatch.chdir(tmp_path)
    errors = {}
    for name, text in (("signed", SIGNED), ("plain", SIGNED.replace("signed_mse", "mse"))):
        path = make_project(tmp_path, text + f"tune {tune}\n")
        run_subject(path, Path(name), QUIET)
        assert audit(Path(name)) == []
        stored = load_file(Path(name, "model.safetensors"))
        scales = torch.cat([x.flatten() for key, x in stored.items() if key.endswith(":scale")])
        assert bool((scales < 0).any()) == (name == "signed")
        errors[name] = output_error(path, Path(name))
    assert errors["signed"] < errors["plain"]


def output_error(recipe, artifact):
    graph = plan_recipe(recipe).bound.graph
    x = torch.randn(64, 1, 6, 6, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return float((qcompile.load(artifact)(x) - graph(x)).square().mean())

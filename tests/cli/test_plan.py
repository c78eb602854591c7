"""``plan`` in its formats, for one model or several, and the trace of one layer."""

import json

import pytest
from click.testing import CliRunner

from qcompile.cli.main import main
from qcompile.report.markdown_table import cut, inline, table_head
from tests.driver.project import RECIPE, make_project

RULES = RECIPE.replace(
    'skip "head"', 'skip "head"\n  set weight.bits = 8 for "conv"\n  use w4a8 for "conv"'
).replace("use w4a8 for conv or linear", "final use w4a8 for conv or linear")
"""Line 10 decides for good, 12 and 13 come too late for some."""
LAYERED = RECIPE.replace(
    'skip "head"', 'skip "head"\n  set weight.bits = 8 for "conv" or "head" and conv'
).replace('"head" and conv', '"blocks.0.conv1"')


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path, LAYERED)


def plan(recipe, *options, status=0):
    result = CliRunner().invoke(main, ["plan", str(recipe), *options])
    assert "internal error" not in result.output
    assert result.exit_code == status, result.output
    return result


def test_trace_lists_every_rule_in_order_with_what_it_gave(recipe):
    lines = plan(recipe, "--trace", "conv").stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("  rules in order"))
    rules = [line.split(maxsplit=1) for line in lines[at + 1 : -1 : 2]]
    gave = [line.strip() for line in lines[at + 2 : -1 : 2]]
    assert [mark if mark in "*-!" else "" for mark, _ in rules] == ["*", "", "*"]
    assert gave == [
        "gives weight int4 per_channel, act uint8 asymmetric per_tensor",
        "does not select it",
        "gives weight int8 per_channel, act uint8 asymmetric per_tensor",
    ]
    assert lines[-1] == "  = w4a8: weight int8 per_channel, act uint8 asymmetric per_tensor"


def test_trace_as_json_has_the_facts_of_the_graph(recipe):
    trace = json.loads(plan(recipe, "--trace", "blocks.0.conv1", "--json").stdout)["trace"]
    assert trace["outcome"] == "quantized"
    assert [rule["effect"] for rule in trace["rules"]] == ["decides", "elsewhere", "decides"]
    assert trace["rules"][0]["gave"]["weight"]["format"]["bits"] == 4
    assert trace["slots"]["weight"]["format"]["bits"] == 8
    site = trace["site"]
    assert (site["kind"], site["shape"], site["unit"]) == ("conv", [8, 8, 3, 3], "blocks.0")
    assert (site["reads"], site["feeds"]) == (["act"], ["blocks.0.act"])
    assert trace["compute"]["macs"] == 6 * 6 * 8 * 8 * 9
    assert trace["compute"]["bops_after"] == 6 * 6 * 8 * 8 * 9 * 8 * 8


def test_overridden_rule_is_marked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = make_project(tmp_path, RECIPE)
    trace = json.loads(plan(recipe, "--trace", "head", "--json").stdout)["trace"]
    assert [rule["effect"] for rule in trace["rules"]] == ["overridden", "decides"]
    assert trace["outcome"] == "skipped"


def test_layer_that_is_not_there_is_an_error_with_a_guess(recipe):
    result = plan(recipe, "--trace", "haed", status=1)
    assert "did you mean `head`" in result.stderr
    document = json.loads(plan(recipe, "--trace", "haed", "--json", status=1).stdout)
    assert [item["code"] for item in document["diagnostics"]] == ["QR301"]


def test_plan_counts_the_work_of_every_layer(recipe):
    text = plan(recipe).stdout
    macs = 6 * 6 * (9 * 8 + 4 * 9 * 64) + 32
    assert f"{macs / 1000:.3g} k MACs" in text
    assert "bit operations" in text


def test_several_models_one_after_another(recipe):
    models = ("--model", "factories:net", "--model", "factories:wide")
    text = plan(recipe, "--preview", *models).stdout
    assert text.index("== factories:net") < text.index("== factories:wide")
    plans = json.loads(plan(recipe, "--preview", *models, "--json").stdout)["plans"]
    assert [one["plan"]["core"]["model"] for one in plans] == ["factories:net", "factories:wide"]


def test_model_that_fails_does_not_hide_the_others(recipe):
    models = ("--model", "factories:nothing", "--model", "factories:wide")
    result = plan(recipe, *models, "--json", status=1)
    failed, made = json.loads(result.stdout)["plans"]
    assert "plan" not in failed
    assert [item["code"] for item in failed["diagnostics"]] == ["QR521"]
    assert made["plan"]["core"]["model"] == "factories:wide"
    assert "factories:wide" in plan(recipe, *models, status=1).stdout


def test_plan_of_another_model_is_not_saved(recipe):
    plan(recipe, "--model", "factories:wide", "-o", "plan.json", status=2)


def test_recipe_without_policy_plans_nothing_for_any_model(recipe):
    recipe.write_text("qrecipe 1\nselect inner = conv\n")
    assert "no `policy`" in plan(recipe, "--model", "zoo:resnet20", status=1).stderr
    assert "no `model`" in plan(recipe, status=1).stderr


# ---- markdown -----------------------------------------------------------------------------------


def test_markdown_says_the_sum_first_and_all_rows(recipe):
    lines = plan(recipe, "--format", "markdown").stdout.splitlines()
    assert lines[0].startswith("### qcompile plan: net.qrecipe -> factories:net")
    assert any(line.startswith("- tensors") for line in lines[:6])
    table = [line for line in lines if line.startswith("|")]
    widths = {line.replace("\\|", "").count("|") for line in table}
    assert widths == {9}
    assert len(table) == 2 + 8


@pytest.mark.parametrize("limit", [500, 600, 900, 1200, 5000])
def test_markdown_never_exceeds_its_limit(recipe, limit):
    text = plan(recipe, "--format", "markdown", "--limit", str(limit)).stdout
    assert len(text.encode()) <= limit
    assert text.startswith("### qcompile plan")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_limit_that_would_have_no_effect_is_refused(recipe, form):
    result = plan(recipe, "--format", form, "--limit", "600", status=2)
    assert "only `--format markdown` has one" in result.stderr


def test_cut_table_says_how_many_rows_are_gone():
    rows = [(f"row{number}", "x" * 20) for number in range(100)]
    text = cut(["# t", ""], table_head(("a", "b")), rows, 1000)
    shown = sum(line.startswith("| row") for line in text.splitlines())
    assert 0 < shown < 100
    assert f"{100 - shown} rows left out" in text
    assert len(text.encode()) <= 1000
    assert cut([], table_head(("a", "b")), rows, 10_000).count("| row") == 100


def test_names_mean_nothing_to_markdown():
    assert inline("a|b") == r"a\|b"
    assert inline("<script>") == r"\<script>"
    assert inline("&lt; @team") == "&amp;lt; @&#8203;team"
    assert inline("  x_y\n*z*") == r"&nbsp;&nbsp;x\_y \*z\*"

"""``diff`` compares meanings: of recipes, saved plans, artifacts and git revisions."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from qcompile.cli.main import main
from tests.driver.project import RECIPE, make_project


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path)


def other(text, name="other.qrecipe"):
    Path(name).write_text(text.lstrip())
    return name


def diff(before, after, *options, status=0):
    result = CliRunner().invoke(main, ["diff", str(before), str(after), *options])
    assert "internal error" not in result.output
    assert result.exit_code == status, result.output
    return result


def found(before, after, *options, status=0):
    return json.loads(diff(before, after, "--json", *options, status=status).stdout)["diff"]


def test_recipe_laid_out_anew_changes_nothing(recipe):
    text = RECIPE.replace("\n  act uint8", "\n\n\n  # a comment\n  act   uint8").replace(
        "conv or linear", "linear or conv"
    )
    result = diff(recipe, other(text), "--exit-code", "--breaking")
    assert result.stdout == "no changes\n"


def test_each_changed_tensor_with_its_rule_and_bytes(recipe):
    text = RECIPE.replace('skip "head"', 'skip "head"\n  set weight.bits = 2 for "conv"')
    change = found(recipe, other(text))
    (tensor,) = change["tensors"]
    assert (tensor["site"], tensor["slot"]) == ("conv", "weight")
    assert (tensor["before"]["format"]["bits"], tensor["after"]["format"]["bits"]) == (4, 2)
    assert tensor["decided_by"]["text"] == 'set weight.bits = 2 for "conv"'
    saved = tensor["bytes_before"] - tensor["bytes_after"]
    assert saved == change["bytes_before"] - change["bytes_after"] > 0
    assert change["settings"] == []
    line = diff(recipe, "other.qrecipe").stdout.splitlines()[1]
    assert "int4 per_channel -> int2 per_channel" in " ".join(line.split())
    assert line.endswith('other.qrecipe:10 set weight.bits = 2 for "conv"')


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (
            "percentile(99)",
            "percentile(99.9)",
            "percentile(99) -> uint8 asymmetric per_tensor perc",
        ),
        ("clip(80%) dynamic", "clip(0.9) dynamic", "dynamic clip(0.8) -> uint8 asymm"),
        ("mse", "mse(p=2)", "per_tensor -> uint8 asymmetric per_tensor mse(p=2)"),
        ("minmax", "clip(0.9)", "per_tensor minmax -> uint8 asymmetric per_tensor clip(0.9)"),
    ],
)
def test_numbers_of_observers_are_shown(recipe, before, after, shown):
    files = [
        other(RECIPE.replace("  act uint8", f"  act uint8 observer={observer}"), f"{place}.qrecipe")
        for place, observer in enumerate((before, after))
    ]
    assert shown in " ".join(diff(*files).stdout.split())


@pytest.mark.parametrize(
    ("before", "after", "breaking"),
    [
        ("int4", "int3", True),
        ("int4", "int6", False),
        ("uint8", "uint7", True),
        ('skip "head"', 'skip "conv"', True),
        ('skip "head"', 'skip "head" or "conv"', False),
        ('"factories:net"', '"factories:wide"', True),
        ("samples = 32", "samples = 16", False),
        ('skip "head"', 'skip "head"\n  use w4a8 for "tail"', True),
        ("per_channel", "per_tensor", False),
    ],
)
def test_breaking_is_where_accuracy_may_fall(recipe, before, after, breaking):
    changed = other(RECIPE.replace(before, after))
    assert found(recipe, changed)["breaking"] is breaking
    diff(recipe, changed, "--breaking", status=int(breaking))
    diff(recipe, changed, "--exit-code", status=3)


def test_settings_are_named_one_by_one(recipe):
    text = RECIPE.replace("samples = 32", "samples = 16").replace("seed = 3", "seed = 4")
    settings = found(recipe, other(text + "tune optq\n"))["settings"]
    changes = {item["name"]: (item["before"], item["after"]) for item in settings}
    assert changes["data.samples"] == (32, 16)
    assert changes["seed"] == (3, 4)
    assert changes["tuning.preset"] == ("rtn", "optq")
    assert not [name for name in changes if name.startswith("weights") or "sha256" in name]


def test_rule_that_selects_nothing_any_more_is_named(recipe):
    lost = other(RECIPE.replace('skip "head"', 'skip "tail"'))
    change = found(recipe, lost)
    assert [rule["text"] for rule in change["newly_unmatched"]] == ['skip "tail"']
    assert {tensor["site"] for tensor in change["tensors"]} == {"head"}
    assert [rule["text"] for rule in found(lost, recipe)["newly_matched"]] == ['skip "tail"']
    assert found(lost, lost)["newly_unmatched"] == []
    assert 'selects nothing now: skip "tail"' in diff(recipe, lost).stdout


def test_saved_plan_and_artifact_are_sides_too(recipe):
    runner = CliRunner()
    assert runner.invoke(main, ["plan", str(recipe), "-o", "plan.json"]).exit_code == 0
    assert runner.invoke(main, ["run", "plan.json", "-o", "out", "-q"]).exit_code == 0
    for before, after in (("plan.json", "out"), ("plan.json", recipe), (recipe, "out")):
        assert diff(before, after).stdout == "no changes\n"
    factories = Path("factories.py").read_text()
    Path("factories.py").write_text(factories.replace("uniform_(0.5", "uniform_(0.6"))
    assert runner.invoke(main, ["plan", str(recipe), "-o", "new.json"]).exit_code == 0
    changes = [item["name"] for item in found("plan.json", "new.json")["settings"]]
    assert changes == ["weights_sha256"]


def test_what_a_recipe_expects_is_left_aside(recipe):
    diff(recipe, other(RECIPE + "expect size <= 0.001kB\n"))


def test_both_sides_report_their_problems(recipe):
    first = other(RECIPE.replace("use w4a8", "use w5"), "first.qrecipe")
    second = other(RECIPE.replace("factories:net", "factories:nothing"), "second.qrecipe")
    result = diff(first, second, "--json", status=1)
    codes = [item["code"] for item in json.loads(result.stdout)["diagnostics"]]
    assert codes == ["QR201", "QR521"]


def test_markdown_fits_its_limit_and_keeps_the_headline(recipe):
    changed = other(RECIPE.replace("int4", "int2"))
    text = diff(recipe, changed, "--format", "markdown", "--limit", "600").stdout
    assert len(text.encode()) <= 600
    assert "breaking: yes" in text


def test_equal_changes_are_folded_until_all_are_asked_for(recipe):
    changed = other(RECIPE.replace("int4", "int2"))
    assert "2 more like these" in diff(recipe, changed).stdout
    assert "more like" not in diff(recipe, changed, "--full").stdout


# ---- git ----------------------------------------------------------------------------------------


def git(*arguments):
    who = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    name = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    subprocess.run(
        ["git", *name, *arguments], check=True, capture_output=True, env=os.environ | who
    )


@pytest.fixture
def history(recipe):
    """``recipe`` with an import as of the first commit; both files differ in the working tree."""
    Path("lib").mkdir()
    library = "qrecipe 1\nscheme low { weight int4 }\n"
    Path("lib/s.qrecipe").write_text(library)
    text = RECIPE.replace("qrecipe 1\n", 'qrecipe 1\nimport "lib/s.qrecipe" as s\n').replace(
        "use w4a8 for conv or linear", "use s.low for conv or linear"
    )
    text = text.replace(text[text.index("scheme") : text.index("policy")], "")
    recipe.write_text(text.lstrip())
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    Path("lib/s.qrecipe").write_text(library.replace("int4", "int3"))
    return recipe


def test_revision_has_its_own_imports(history):
    change = found("HEAD:net.qrecipe", "net.qrecipe")
    assert {one["before"]["format"]["bits"] for one in change["tensors"]} == {4}
    assert {one["after"]["format"]["bits"] for one in change["tensors"]} == {3}
    assert len(change["tensors"]) == 5


def test_revision_is_found_from_a_folder_below(history, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "lib")
    assert found("HEAD:net.qrecipe", "../net.qrecipe")["breaking"] is True
    assert found("HEAD:./../net.qrecipe", "HEAD:net.qrecipe")["tensors"] == []


def test_saved_plan_of_a_revision(history):
    assert CliRunner().invoke(main, ["plan", "net.qrecipe", "-o", "plan.json"]).exit_code == 0
    git("add", "-A")
    git("commit", "-qm", "second")
    assert diff("HEAD:plan.json", "net.qrecipe").stdout == "no changes\n"


@pytest.mark.parametrize("name", ["nope:net.qrecipe", "HEAD:gone.qrecipe", "--all:net.qrecipe"])
def test_revision_or_path_that_git_does_not_have(history, name):
    result = CliRunner().invoke(main, ["diff", "--", name, "net.qrecipe"])
    assert result.exit_code == 1
    assert "QR721" in result.stderr


def test_revision_outside_of_a_repository(recipe, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(Path.cwd().parent))
    assert "QR721" in diff("HEAD:net.qrecipe", recipe, status=1).stderr

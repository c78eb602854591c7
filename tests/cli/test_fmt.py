"""``qcompile fmt``, and that the recipes of this repository went through it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from qcompile.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.qrecipe"))
UGLY = "qrecipe 1\nscheme w8 { weight int8 } # all\npolicy main { use w8 for linear }\n"
NEAT = """qrecipe 1
scheme w8 {
  weight int8
}  # all
policy main {
  use w8 for linear
}
"""


def invoke(*arguments):
    result = CliRunner().invoke(main, ["fmt", *(str(a) for a in arguments)])
    assert "Traceback" not in result.output
    assert "internal error" not in result.output
    return result


@pytest.fixture
def ugly(tmp_path):
    path = tmp_path / "ugly.qrecipe"
    path.write_text(UGLY)
    return path


def test_file_is_formatted_in_place_once(ugly):
    first = invoke(ugly)
    assert first.exit_code == 0
    assert ugly.read_text() == NEAT
    assert "change 1 of 1 recipe" in first.stderr
    assert "change 0 of 1 recipe" in invoke(ugly).stderr
    assert [path.name for path in ugly.parent.iterdir()] == ["ugly.qrecipe"]


def test_check_fails_and_writes_nothing(ugly):
    result = invoke("--check", ugly)
    assert result.exit_code == 1
    assert f"would change {ugly}" in result.stderr
    assert ugly.read_text() == UGLY
    invoke(ugly)
    assert invoke("--check", ugly).exit_code == 0


def test_diff_shows_the_change_and_writes_nothing(ugly):
    result = invoke("--diff", ugly)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"--- {ugly}\n+++ {ugly}\n@@ ")
    assert "-policy main { use w8 for linear }\n" in result.stdout
    assert "+  use w8 for linear\n" in result.stdout
    assert ugly.read_text() == UGLY
    assert invoke("--diff", "--check", ugly).exit_code == 1


def test_folder_is_searched_but_not_hidden_ones(ugly):
    inner = ugly.parent / "a" / "b"
    hidden = ugly.parent / ".venv"
    for folder in (inner, hidden):
        folder.mkdir(parents=True)
        (folder / "x.qrecipe").write_text(UGLY)
    (inner / "notes.txt").write_text("policy")
    assert invoke(ugly.parent, ugly).exit_code == 0
    assert (inner / "x.qrecipe").read_text() == ugly.read_text() == NEAT
    assert (hidden / "x.qrecipe").read_text() == UGLY


def test_folder_without_recipes_is_a_mistake(tmp_path):
    assert invoke("--check", tmp_path).exit_code == 2


def test_broken_file_is_reported_and_the_others_are_formatted(ugly):
    broken = ugly.with_name("broken.qrecipe")
    broken.write_text("qrecipe 1\nlet a = = 1\n")
    result = invoke(broken, ugly, ugly.with_name("missing.qrecipe"))
    assert result.exit_code == 1
    assert "QR101" in result.stderr
    assert "QR114" in result.stderr
    assert broken.read_text() == "qrecipe 1\nlet a = = 1\n"
    assert ugly.read_text() == NEAT


def test_link_stays_a_link(ugly):
    link = ugly.with_name("link.qrecipe")
    link.symlink_to(ugly)
    invoke(link)
    assert link.is_symlink()
    assert ugly.read_text() == NEAT


def test_recipe_goes_to_json_and_back(ugly, tmp_path):
    target = tmp_path / "x.qrecipe.json"
    assert invoke("--to", "json", ugly, "-o", target).exit_code == 0
    assert json.loads(target.read_text())["format_version"] == "1.0"
    back = invoke("--to", "qrecipe", target)
    assert back.stdout.startswith("qrecipe 1\n\nscheme w8 {\n  weight int8\n}  # all\n")
    assert ugly.read_text() == UGLY
    assert invoke("--check", target).exit_code == 0
    target.write_text(json.dumps(json.loads(target.read_text())))
    assert invoke("--check", target).exit_code == 1


def test_output_goes_to_another_file(ugly, tmp_path):
    assert invoke(ugly, "-o", tmp_path / "neat.qrecipe").exit_code == 0
    assert (tmp_path / "neat.qrecipe").read_text() == NEAT
    assert ugly.read_text() == UGLY


def test_json_that_is_no_recipe_is_left_alone(tmp_path):
    path = tmp_path / "x.qrecipe.json"
    path.write_text('{"format_version": "1.0"}')
    result = invoke(path)
    assert result.exit_code == 1
    assert "QR115" in result.stderr
    assert path.read_text() == '{"format_version": "1.0"}'


@pytest.mark.parametrize(
    "arguments", [("--to", "json", "--check"), ("-o", "x", "--diff"), ("--to", "json", "more")]
)
def test_options_that_do_not_go_together(ugly, arguments):
    assert invoke(ugly, *arguments).exit_code == 2


def test_json_recipe_is_checked_like_any_other(ugly, tmp_path):
    target = tmp_path / "x.qrecipe.json"
    ugly.write_text(UGLY.replace("use w8", "use w9"))
    invoke("--to", "json", ugly, "-o", target)
    result = CliRunner().invoke(main, ["check", str(target)])
    assert result.exit_code == 1
    assert "QR201" in result.stderr
    assert "x.qrecipe.json (as text):" in result.stderr
    ugly.write_text(UGLY)
    invoke("--to", "json", ugly, "-o", target)
    assert CliRunner().invoke(main, ["check", str(target)]).exit_code == 0


def test_fix_leaves_a_json_recipe_alone(ugly, tmp_path):
    target = tmp_path / "x.qrecipe.json"
    ugly.write_text("qrecipe 1\nselect unused = conv\n" + UGLY.removeprefix("qrecipe 1\n"))
    invoke("--to", "json", ugly, "-o", target)
    before = target.read_text()
    CliRunner().invoke(main, ["check", "--fix", str(target)])
    assert target.read_text() == before


def test_formatting_loads_no_torch(ugly):
    code = (
        "import sys; from click.testing import CliRunner; from qcompile.cli.main import main;"
        f"r = CliRunner().invoke(main, ['fmt', {str(ugly)!r}]);"
        "print(r.exit_code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 False"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_of_this_repository_is_formatted(path):
    assert invoke("--check", path).exit_code == 0, f"run `qcompile fmt {path.relative_to(ROOT)}`"


def test_published_hooks_call_commands_that_exist():
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert [hook["id"] for hook in hooks] == ["qcompile-fmt", "qcompile-check"]
    for hook in hooks:
        program, command, *_ = hook["entry"].split()
        assert program == "qcompile"
        assert command in COMMANDS
        assert hook["files"] == r"\.qrecipe$"


def test_own_hooks_format_the_recipes():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = {hook["id"]: hook for repo in config["repos"] for hook in repo["hooks"]}
    assert {"ruff-format", "ruff-check", "qcompile-fmt"} <= hooks.keys()
    assert "fmt --check" in hooks["qcompile-fmt"]["entry"]


def piped(text, *options):
    return CliRunner().invoke(main, ["fmt", "-", *options], input=text)


def test_dash_reads_stdin_and_writes_stdout():
    result = piped(UGLY)
    assert (result.exit_code, result.stdout) == (0, NEAT)
    assert piped(NEAT).stdout == NEAT


def test_dash_takes_both_forms():
    as_json = piped(NEAT, "--to", "json").stdout
    assert json.loads(as_json)["language"] == 1
    as_text = piped(as_json, "--to", "qrecipe").stdout
    assert "}  # all\n" in as_text
    assert piped(as_text, "--to", "json").stdout == as_json
    assert piped(as_json).stdout == as_json


def test_dash_can_be_checked_without_output():
    assert (piped(UGLY, "--check").exit_code, piped(UGLY, "--check").stdout) == (1, "")
    assert piped(NEAT, "--check").exit_code == 0
    assert "+  weight int8" in piped(UGLY, "--diff").stdout


def test_dash_prints_nothing_of_what_cannot_be_read():
    result = piped("qrecipe 1\nscheme {\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "<stdin>" in result.stderr
    assert piped("qrecipe 1\n", "other.qrecipe").exit_code == 2

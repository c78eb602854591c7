"""The README and the page of the architecture name everything there is."""

import re
import tomllib

import pytest

from qcompile.cli.main import COMMANDS
from qcompile.methods.presets import PRESETS
from tests.docs.pages import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WORDS_OF_CODE = re.compile(r"[\w./]+")


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_has_every_command_in_its_table(command):
    assert re.search(rf"^\| `qcompile {command}\b", README, re.MULTILINE)


@pytest.mark.parametrize("item", PRESETS, ids=lambda item: item.preset)
def test_readme_names_every_preset(item):
    assert f"`{item.preset}`" in README


def test_table_of_the_floors_is_that_of_the_contract():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = project["tool"]["importlinter"]["contracts"][0]
    rows = re.findall(r"^\| (`\w+`(?: \\\| `\w+`)*) \|", ARCHITECTURE, re.MULTILINE)
    floors = [row.replace("`", "").replace("\\", "") for row in rows]
    wanted = [floor for floor in contract["layers"] if floor != "__main__"]
    assert floors[: len(wanted)] == wanted


def test_architecture_names_files_that_exist():
    pieces = ARCHITECTURE.replace("```", "").split("`")[1::2]
    paths = [word for piece in pieces for word in WORDS_OF_CODE.findall(piece)]
    files = [path for path in paths if path.endswith(".py") and "/" in path]
    assert files
    roots = (ROOT, ROOT / "qcompile")
    assert [path for path in files if not any((root / path).exists() for root in roots)] == []

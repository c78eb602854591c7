"""The page about a method of one's own is done as it says, in a copy of the source."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, write_file
from tests.specs.literate import read

PAGE = ROOT / "docs" / "how-to" / "own-method.md"
BLOCKS = read(PAGE)
ASSETS = (".npz", ".safetensors")
COPIED = ("qcompile", "grammars", "tests", "pyproject.toml")
COMMANDS = [
    shlex.split(line)
    for block in BLOCKS
    if block.language == "sh"
    for line in block.text.splitlines()
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source after everything that the page adds and changes."""
    folder = tmp_path_factory.mktemp("source")
    for name in COPIED:
        copy(ROOT / name, folder / name)
    for block in BLOCKS:
        write_file(block, folder)
        if block.language == "diff":
            for path, before, after in hunks(block.text):
                replace(folder / path, before, after)
    return folder


def copy(given: Path, made: Path) -> None:
    """Large files are linked."""
    if given.is_file():
        (os.symlink if given.suffix in ASSETS else shutil.copyfile)(given, made)
    elif given.name != "__pycache__":
        made.mkdir()
        for inner in given.iterdir():
            copy(inner, made / inner.name)


def hunks(diff: str) -> Iterator[tuple[str, str, str]]:
    """A file, lines that stand in it, and what stands there instead."""
    path = ""
    for part in diff.split("+++ ")[1:]:
        path, *rest = part.split("\n@@")
        for hunk in rest:
            lines = hunk.splitlines()[1:]
            before = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
            after = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
            yield path, before, after


def replace(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{path.name} has changed: {before}"
    path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words[:3]))
def test_command_of_the_page_ends_well(command, source):
    program, *words = command
    assert program == "python"
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=source, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""The console sessions of the documentation: play a page, and compare or renew what it prints.

A ``console`` block holds commands after ``$ ``, each above its output. A page is played from top to
bottom in one folder of its own: blocks with ``file=NAME`` are written when their turn comes.
``exit=1`` is the status of the last command, ``slow=yes`` keeps a block from the test suite.

``python -m tests.docs.sessions [--quick]`` plays all pages and writes the outputs anew; the tests
compare them, apart from what depends on the machine.
"""

import argparse
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from qcompile.cli.main import main
from tests.docs.pages import name_of, pages, write_file
from tests.specs.literate import Block, read

PROMPT = "$ "
_VARYING = (
    (re.compile(r"\b\d+\.\d+ ?s\b"), "<seconds>"),
    (re.compile(r"\b\d+:\d\d\b"), "<clock>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<identity>"),
    (re.compile(r"\b[0-9a-f]{6}\b(?=[,)])"), "<hash>"),
    (re.compile(r"\b\d\.\d{4}\b"), "<measured>"),
)
"""Durations, hashes that hold the version of torch, and figures that depend on the processor."""


@dataclass(frozen=True, slots=True)
class Played:
    """One console block, and the text that it should hold."""

    block: Block
    text: str
    exit_code: int

    @property
    def expected_exit(self) -> int:
        return int(self.block.options.get("exit", "0"))


def without_varying(text: str) -> str:
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return text


def play(page: Path, folder: Path, *, slow: bool) -> Iterator[Played]:
    """Play the blocks of ``page`` in ``folder``; slow ones only if asked for."""
    for block in read(page):
        write_file(block, folder)
        if block.language == "console" and (slow or "slow" not in block.options):
            with chdir(folder):
                yield _played(block)


def commands(block: Block) -> list[str]:
    found = [line for line in block.text.splitlines() if line.startswith(PROMPT)]
    return [line.removeprefix(PROMPT) for line in found]


def _played(block: Block) -> Played:
    lines: list[str] = []
    status = 0
    for command in commands(block):
        output, status = _run(command)
        lines += [f"{PROMPT}{command}", *output.rstrip("\n").splitlines()]
    return Played(block, "".join(f"{line}\n" for line in lines), status)


def _run(command: str) -> tuple[str, int]:
    """What it prints and its status. ``qcompile`` and ``python FILE`` run in this process.

    What ``qcompile`` is piped into, and every other command, runs in a shell.
    """
    head, _, pipe = command.partition(" | ")
    words = shlex.split(head)
    match words[0]:
        case "qcompile":
            done = CliRunner().invoke(main, words[1:], prog_name="qcompile")
            if pipe:
                output, status = _shell(pipe, done.stdout)
                return done.stderr + output, status
            return done.output, done.exit_code
        case "python":
            printed = io.StringIO()
            with redirect_stdout(printed):
                runpy.run_path(words[1])
            return printed.getvalue(), 0
        case _:
            return _shell(command, "")


def _shell(command: str, given: str) -> tuple[str, int]:
    done = subprocess.run(
        ["bash", "-c", command],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
    )
    return done.stdout, done.returncode


def renewed(page: Path, folder: Path, *, slow: bool) -> str:
    """The text of ``page`` with its sessions as they run here and now."""
    lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
    for done in reversed([*play(page, folder, slow=slow)]):
        first = done.block.line
        if done.exit_code != done.expected_exit:
            raise SystemExit(f"{name_of(page)}:{first}: ended with {done.exit_code}\n{done.text}")
        lines[first : first + len(done.block.text.splitlines())] = [done.text]
    return "".join(lines)


def has_sessions(page: Path) -> bool:
    return any(block.language == "console" for block in read(page))


if __name__ == "__main__":
    asked = argparse.ArgumentParser(
        description="Play the pages, and write what the commands print."
    )
    asked.add_argument("--quick", action="store_true", help="Leave the slow sessions as they are.")
    with_slow = not asked.parse_args().quick
    for shown in filter(has_sessions, pages()):
        with tempfile.TemporaryDirectory() as directory:
            shown.write_text(renewed(shown, Path(directory), slow=with_slow), encoding="utf-8")
        sys.stdout.write(f"{name_of(shown)}\n")

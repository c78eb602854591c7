"""Files of a git revision, as the repository around the working directory has them."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source
from qcompile.driver.front import seen_from_here
from qcompile.driver.project_files import ProjectFiles
from qcompile.policy.imports import LIBRARY, Refusal
from qcompile.syntax.json_form import as_recipe_text, is_json_name
from qcompile.syntax.read import decode


@dataclass(frozen=True, slots=True)
class Revision:
    """``name`` as a user writes it; ``root`` is the top of the working tree."""

    name: str
    root: Path

    def content(self, path: str) -> bytes:
        """Of a path that is seen from the root, or from here if it begins with ``./``.

        Raises ``CompileError`` (QR721).
        """
        wanted = f"{self.name}:{path}"
        done = _git("show", "--no-textconv", "--end-of-options", wanted)
        if done.returncode != 0:
            raise CompileError([not_in_git(wanted, done.stderr.decode(errors="replace"))])
        return done.stdout

    def source(self, path: str) -> Source:
        """The recipe at ``path``, named by where it lies in the working tree."""
        file = Path(path) if path.startswith("./") else self.root / path
        return self._source(path, str(seen_from_here(file)))

    def _source(self, path: str, name: str) -> Source:
        found = decode(self.content(path), name)
        if isinstance(found, list):
            raise CompileError(found)
        found = Source(found.name, found.text, f" at {self.name}")
        if not is_json_name(name):
            return found
        recipe = as_recipe_text(found)
        if isinstance(recipe, list):
            raise CompileError(recipe)
        return recipe

    def read(self, name: str) -> Source | Refusal:
        """What an import of a recipe of this revision leads to."""
        if name.startswith(LIBRARY):
            return ProjectFiles(self.root).read(name)
        path = Path(name).absolute()
        if not path.is_relative_to(self.root):
            return Refusal("it lies outside of the repository", "move it inside", leaves=True)
        try:
            return self._source(path.relative_to(self.root).as_posix(), name)
        except CompileError as error:
            return Refusal(error.diagnostics[0].message, "check the path in that revision")


def revision(name: str) -> Revision:
    """Raises ``CompileError`` (QR721) outside of a repository."""
    done = _git("rev-parse", "--show-toplevel")
    if done.returncode != 0:
        raise CompileError([not_in_git(name, done.stderr.decode(errors="replace"))])
    return Revision(name, Path(done.stdout.decode().rstrip("\n")))


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = ("git", *arguments)
    try:
        return subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, b"", b"git is not installed")


def not_in_git(wanted: str, said: str) -> Diagnostic:
    """QR721."""
    return Diagnostic(
        Code.REVISION,
        f"git has no `{wanted}`",
        subject=wanted,
        notes=tuple(line for line in said.strip().splitlines()[:3] if line),
        help="write `REVISION:PATH` with the path as seen from the root of the repository",
    )

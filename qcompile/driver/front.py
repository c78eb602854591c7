"""The front end: a file becomes a checked recipe. Loads no torch."""

from dataclasses import dataclass
from pathlib import Path

from qcompile.diagnostics.diagnostic import Diagnostic, has_errors, in_order
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source
from qcompile.policy.lower import lower
from qcompile.policy.recipe import Recipe
from qcompile.syntax.parse import parse
from qcompile.syntax.read import read


@dataclass(frozen=True, slots=True)
class Checked:
    """``recipe`` is there exactly when there is no error."""

    recipe: Recipe | None
    diagnostics: tuple[Diagnostic, ...]


def check(path: Path) -> Checked:
    """Read, parse and lower one recipe; all problems of all phases that could run."""
    source = read(path)
    return Checked(None, tuple(source)) if isinstance(source, list) else check_source(source)


def check_source(source: Source) -> Checked:
    """The same of a text that is at hand."""
    file, problems = parse(source)
    if file is None:
        return Checked(None, tuple(in_order(problems)))
    recipe, found = lower(file, source)
    found = in_order([*problems, *found])
    return Checked(None if has_errors(found) else recipe, tuple(found))


def load_recipe(path: str | Path) -> Recipe:
    """The recipe in ``path``. Raises ``CompileError`` with every error that it has."""
    checked = check(Path(path))
    if checked.recipe is None:
        raise CompileError(list(checked.diagnostics))
    return checked.recipe

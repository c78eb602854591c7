"""The front end: a file becomes a checked recipe. Loads no torch."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, has_errors, in_order
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source
from qcompile.driver.project_files import ProjectFiles
from qcompile.policy.imports import LIBRARY, Loader, Refusal
from qcompile.policy.lower import NO_ARGUMENTS, NO_FILES, lower
from qcompile.policy.recipe import Model, Recipe
from qcompile.policy.shadowed import shadowed_rules
from qcompile.syntax.hidden import hidden_characters
from qcompile.syntax.nodes import RecipeFile
from qcompile.syntax.parse import parse
from qcompile.syntax.read import read
from qcompile.syntax.suppressions import apply_suppressions


@dataclass(frozen=True, slots=True)
class Checked:
    """``recipe`` is there exactly when there is no error."""

    recipe: Recipe | None
    diagnostics: tuple[Diagnostic, ...]
    silenced: tuple[Diagnostic, ...] = ()
    """What the recipe's comments suppress: ``settled`` judges it again."""


def check(
    path: Path, params: Mapping[str, str] = NO_ARGUMENTS, tests: RecipeFile | None = None
) -> Checked:
    """Read, parse and lower one recipe; all problems of all phases that could run.

    ``params`` are values of parameters as text, by the name that the recipe itself would use;
    ``tests`` are further expectations, in the recipe's own names.
    """
    path = seen_from_here(path)
    source = read(path)
    if isinstance(source, list):
        return Checked(None, tuple(source))
    return check_source(source, ProjectFiles.around(path), params, tests)


def seen_from_here(path: Path) -> Path:
    """Relative to the working directory if it lies below: the same name however it was given."""
    absolute = Path(os.path.abspath(path))
    here = Path.cwd()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute


def check_source(
    source: Source,
    loader: Loader = NO_FILES,
    params: Mapping[str, str] = NO_ARGUMENTS,
    tests: RecipeFile | None = None,
) -> Checked:
    """The same of a text that is at hand; ``loader`` knows what it imports."""
    file, problems = parse(source)
    recipe, found = (None, []) if file is None else lower(file, source, loader, params, tests)
    shadowed = [] if recipe is None else shadowed_rules(recipe)
    found = [*problems, *found, *shadowed, *hidden_characters(source)]
    judged = apply_suppressions(found, source, with_model=False)
    return Checked(
        None if has_errors(judged.diagnostics) else recipe,
        tuple(in_order(judged.diagnostics)),
        judged.silenced,
    )


def settled(checked: Checked, found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """All that is to be said of a recipe once its model was looked at, which had ``found``."""
    everything = [*checked.diagnostics, *checked.silenced, *found]
    if checked.recipe is None:
        return in_order(everything)
    judged = apply_suppressions(everything, checked.recipe.source, with_model=True)
    return in_order(judged.diagnostics)


def with_expectations(recipe: Recipe, packs: Iterable[str]) -> Recipe:
    """``recipe`` that is held to the tests of other files too: a path, or ``std:edge``.

    They decide nothing, so that the plan stays the same. Raises ``CompileError``.
    """
    assertions = list(recipe.assertions)
    for name in packs:
        pack = _pack(name)
        if not pack.assertions:
            raise CompileError([expects_nothing(name)])
        assertions += pack.assertions
    return replace(recipe, assertions=tuple(assertions))


def with_model(recipe: Recipe, reference: str) -> Recipe:
    """``recipe`` for another model, whose weights are those that come with it."""
    own = recipe.model
    span = recipe.source.span(0, 0) if own is None else own.span
    inputs = () if own is None else own.inputs
    return replace(recipe, model=Model(reference, (), None, inputs, recipe.images, span))


def _pack(name: str) -> Recipe:
    if not name.startswith(LIBRARY):
        return load_recipe(name)
    files = ProjectFiles(Path.cwd())
    source = files.read(name)
    if isinstance(source, Refusal):
        raise CompileError([no_such_library(name, source)])
    checked = check_source(source, files)
    if checked.recipe is None:
        raise CompileError(list(checked.diagnostics))
    return checked.recipe


def expects_nothing(name: str) -> Diagnostic:
    """QR211."""
    return Diagnostic(
        Code.MISSING_STATEMENT,
        "the file expects nothing of a plan",
        subject=name,
        help="write what must hold: `expect none((conv or linear) and float)`",
    )


def no_such_library(name: str, refusal: Refusal) -> Diagnostic:
    """QR205."""
    return Diagnostic(
        Code.CANNOT_IMPORT, f"cannot import `{name}`", subject=name, help=refusal.help
    )


def load_recipe(path: str | Path, params: Mapping[str, str] = NO_ARGUMENTS) -> Recipe:
    """The recipe in ``path``. Raises ``CompileError`` with every error that it has."""
    checked = check(Path(path), params)
    if checked.recipe is None:
        raise CompileError(list(checked.diagnostics))
    return checked.recipe

"""``select``: which sites of a recipe's model an expression means."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from qcompile.capture.sites import find_sites
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label, has_errors, in_order
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source, Span
from qcompile.driver.bind import Seen, block_sites, divided, look
from qcompile.driver.front import check, with_model
from qcompile.driver.plan import nothing_to_plan
from qcompile.driver.transforms import folded
from qcompile.policy.core import Frozen
from qcompile.policy.lower import NO_ARGUMENTS
from qcompile.policy.recipe import Recipe
from qcompile.policy.resolve import resolve
from qcompile.policy.selection import Selection, leaves
from qcompile.policy.selector import InBlocks, Selector
from qcompile.policy.site import Site
from qcompile.policy.unmatched import unmatched_patterns
from qcompile.syntax import nodes
from qcompile.syntax.nodes import RecipeFile
from qcompile.syntax.parse import parse

SHOWN = "selector"
"""Name of the expression's text in diagnostics."""
_NAME = "selected_by_the_command_line"
_BEFORE = f"qrecipe 1\nselect {_NAME} = "


class SelectedSite(Frozen):
    key: str
    kind: str
    op: str
    weight: str | None
    shape: tuple[int, ...] | None
    params: int
    macs: int | None
    scheme: str | None
    """What the recipe decides for it; ``None``: float."""


class Selected(Frozen):
    expression: str
    total: int
    """Sites of the model."""
    sites: tuple[SelectedSite, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    recipe: Recipe
    selector: Selector


def select(
    expression: str,
    path: Path,
    *,
    trusted: frozenset[str] = frozenset(),
    params: Mapping[str, str] = NO_ARGUMENTS,
    model: str | None = None,
) -> tuple[Selected, list[Diagnostic]]:
    """What ``expression`` selects, in the names of the recipe in ``path``; needs no weights.

    The list holds QR301 for patterns that match nothing. Rules of the recipe may be wrong: this is
    how one finds out. Raises ``CompileError`` where the recipe or the expression cannot be read.
    """
    asked = _asked(expression, path, params)
    recipe = asked.recipe if model is None else with_model(asked.recipe, model)
    if recipe.is_library:
        raise CompileError([nothing_to_plan(recipe)])
    seen = look(recipe, trusted=trusted, preview=True)
    resolution, _ = resolve(replace(recipe, assertions=()), seen.sites)
    blocks = _blocks(recipe, seen) if _asks_for_blocks(asked.selector) else ()
    selection = Selection(seen.sites, resolution.decided(blocks))
    chosen = selection.of(asked.selector)
    schemes = {one.site.index: one.scheme for one in resolution.decisions}
    found = Selected(
        expression=expression,
        total=len(seen.sites),
        sites=tuple(
            _site(site, schemes[site.index]) for site in seen.sites if site.index in chosen
        ),
    )
    problems = unmatched_patterns(asked.selector, selection)
    return found, in_order(_own(item, expression) for item in problems)


def _asked(expression: str, path: Path, params: Mapping[str, str]) -> _Asked:
    source = Source(SHOWN, _BEFORE + expression)
    file, problems = parse(source)
    if file is None:
        raise CompileError(in_order(_own(item, expression) for item in problems))
    if not _is_one_selector(file):
        raise CompileError([several_statements(expression)])
    checked = check(path, params, file)
    if checked.recipe is None or has_errors(checked.diagnostics):
        raise CompileError(in_order(_own(item, expression) for item in checked.diagnostics))
    return _Asked(checked.recipe, checked.recipe.selects[_NAME])


def _is_one_selector(file: RecipeFile) -> bool:
    return len(file.statements) == 1 and isinstance(file.statements[0], nodes.Select)


def _asks_for_blocks(selector: Selector) -> bool:
    return any(isinstance(leaf, InBlocks) for leaf in leaves(selector))


def _blocks(recipe: Recipe, seen: Seen) -> tuple[frozenset[int], ...]:
    resolution, _ = resolve(replace(recipe, rules=(), assertions=()), seen.sites)
    graph, _ = folded(seen.captured.module, resolution)
    units, _ = divided(recipe, graph, find_sites(graph))
    return block_sites(units, seen.sites)


def _site(site: Site, scheme: str | None) -> SelectedSite:
    return SelectedSite(
        key=site.key,
        kind=site.kind.value,
        op=site.op,
        weight=site.weight.path if site.weight else None,
        shape=site.weight.shape if site.weight else None,
        params=site.params,
        macs=site.macs,
        scheme=scheme,
    )


def _own(item: Diagnostic, expression: str) -> Diagnostic:
    """``item`` with its places in the expression alone, without the statement around it."""
    text = Source(SHOWN, expression)

    def moved(label: Label) -> Label:
        span = label.span
        if span.source.name != SHOWN:
            return label
        start = min(max(span.start - len(_BEFORE), 0), len(expression))
        end = min(max(span.end - len(_BEFORE), start), len(expression))
        return replace_span(label, Span(text, start, end))

    primary = None if item.primary is None else moved(item.primary)
    fixes = tuple(fix for fix in item.fixes if fix.span.source.name != SHOWN)
    return replace(item, primary=primary, secondary=tuple(map(moved, item.secondary)), fixes=fixes)


def replace_span(label: Label, span: Span) -> Label:
    return Label(span, label.text)


def several_statements(expression: str) -> Diagnostic:
    """QR101: a selector was asked for, and more than one statement came."""
    return Diagnostic(
        Code.UNEXPECTED_TOKEN,
        "a selector is one expression",
        Label(Source(SHOWN, expression).span(0, len(expression))),
        help="put statements into the recipe, and name what they define",
    )

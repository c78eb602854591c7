"""Bind the ``blocks`` statement of a recipe to the sites of a model."""

from collections.abc import Sequence

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Span
from qcompile.policy.lower_blocks import patterns
from qcompile.policy.recipe import BlockEach, BlockGroup, Recipe
from qcompile.policy.selection import Selection
from qcompile.policy.selector import Subtree
from qcompile.policy.site import Site
from qcompile.policy.unmatched import empty_selection, some_paths, unmatched_patterns


@frozen
class NamedBlock:
    """``name`` is a module path or the name of a group; ``sites`` are ``Site.index``."""

    name: str
    sites: frozenset[int]
    span: Span


def named_blocks(
    recipe: Recipe, sites: Sequence[Site]
) -> tuple[tuple[NamedBlock, ...], list[Diagnostic]]:
    """In execution order; what no row names is left to the caller."""
    selection = Selection(sites)
    blocks: list[NamedBlock] = []
    diagnostics: list[Diagnostic] = []
    for row in recipe.blocks:
        unmatched = unmatched_patterns(row.selector, selection)
        diagnostics += unmatched
        if unmatched:
            continue
        match row:
            case BlockEach():
                blocks += _each(row, sites)
            case BlockGroup(name, selector, span):
                chosen = selection.of(selector)
                if chosen:
                    blocks.append(NamedBlock(name, chosen, span))
                else:
                    diagnostics.append(empty_selection(selector, selection))
    diagnostics += _overlaps(blocks, sites)
    return tuple(sorted(blocks, key=lambda block: min(block.sites))), diagnostics


def _each(row: BlockEach, sites: Sequence[Site]) -> list[NamedBlock]:
    """The outermost match counts, where one pattern matches a module and another inside it."""
    leaves = patterns(row)
    found: dict[str, set[int]] = {}
    for site in sites:
        path = _outermost(leaves, site)
        if path is not None:
            found.setdefault(path, set()).add(site.index)
    return [NamedBlock(path, frozenset(inside), row.span) for path, inside in found.items()]


def _outermost(leaves: Sequence[Subtree], site: Site) -> str | None:
    paths = (*site.scopes, site.path)
    return next(
        (path for path in paths if any(leaf.matcher.matches(path) for leaf in leaves)), None
    )


def _overlaps(blocks: Sequence[NamedBlock], sites: Sequence[Site]) -> list[Diagnostic]:
    owner: dict[int, NamedBlock] = {}
    shared: dict[tuple[int, int], tuple[NamedBlock, NamedBlock, list[Site]]] = {}
    by_index = {site.index: site for site in sites}
    for block in blocks:
        for index in sorted(block.sites):
            first = owner.setdefault(index, block)
            if first is not block:
                pair = (id(first), id(block))
                shared.setdefault(pair, (first, block, []))[2].append(by_index[index])
    return [blocks_overlap(first, second, at) for first, second, at in shared.values()]


def blocks_overlap(first: NamedBlock, second: NamedBlock, at: Sequence[Site]) -> Diagnostic:
    """QR701."""
    return Diagnostic(
        Code.BLOCKS,
        f"blocks `{first.name}` and `{second.name}` overlap",
        Label(second.span, "claims them again"),
        (Label(first.span, "claims them first"),) if first.span != second.span else (),
        notes=some_paths(at),
        help="let each layer be in one block: narrow one of them with `except`",
    )

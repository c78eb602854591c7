"""Rules that are legal but probably say something else than was meant."""

import re
from collections.abc import Iterator, Sequence

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.neighbours import related
from qcompile.policy.recipe import ChooseScheme, Rule, UseScheme
from qcompile.policy.selection import Selection, leaves
from qcompile.policy.selector import (
    AllOf,
    AnyOf,
    Everything,
    Named,
    Not,
    Nth,
    Pattern,
    Related,
    Selector,
    Stretch,
)
from qcompile.policy.site import Site
from qcompile.policy.unmatched import some_paths

_CONSTANT = re.compile(r"_?(tensor_)?constant_?\d+")
_NUMBERED = re.compile(r"[a-z]\w*_\d+")
"""``add_1``: the second addition of its module, until somebody writes one above it."""


def doubtful_rules(rules: Sequence[Rule], selection: Selection) -> Iterator[Diagnostic]:
    """QR307, QR308, QR310."""
    for rule in rules:
        if isinstance(rule.action, UseScheme | ChooseScheme) and _is_everything(rule.selector):
            yield selects_everything(rule, len(selection.sites))
        for leaf in leaves(rule.selector):
            if isinstance(leaf, Pattern) and _is_generated(leaf, selection):
                yield generated_name(leaf)
        for nth in _ends(rule.selector):
            rivals = _rivals(nth, selection)
            if len(rivals) > 1:
                yield ambiguous_end(nth, rivals)


def _is_everything(selector: Selector) -> bool:
    while isinstance(selector, Named):
        selector = selector.item
    return isinstance(selector, Everything)


def _is_generated(leaf: Pattern, selection: Selection) -> bool:
    last = leaf.matcher.text.rpartition(".")[2]
    if _CONSTANT.fullmatch(last):
        return True
    if not _NUMBERED.fullmatch(last):
        return False
    chosen = selection.of(leaf)
    return bool(chosen) and all(_is_function(selection.sites[index]) for index in chosen)


def _is_function(site: Site) -> bool:
    """Not a module: its path was made up by the tracer."""
    home, _, _ = site.op.rpartition(".")
    return home != "torch.nn" and site.weight is None


def _ends(selector: Selector) -> Iterator[Nth]:
    """``first(...)`` and ``last(...)`` anywhere inside."""
    match selector:
        case Nth(item, number):
            if number in (0, -1):
                yield selector
            yield from _ends(item)
        case AllOf(items) | AnyOf(items):
            for item in items:
                yield from _ends(item)
        case Not(item) | Related(_, item) | Named(_, item):
            yield from _ends(item)
        case Stretch(first, last):
            yield from _ends(first)
            yield from _ends(last)
        case _:
            pass


def _rivals(nth: Nth, selection: Selection) -> list[Site]:
    """The sites of which none comes before (after) another of the selection on any path."""
    chosen = selection.of(nth.item)
    beyond = related("follows" if nth.number == 0 else "precedes", selection.sites, chosen)
    alone = chosen - beyond
    return [site for site in selection.sites if site.index in alone]


def selects_everything(rule: Rule, count: int) -> Diagnostic:
    """QR307."""
    return Diagnostic(
        Code.SELECTS_EVERYTHING,
        f"the rule selects all {count} sites, norms and activations included",
        Label(rule.selector.span, "everything"),
        help="write `conv or linear` if the layers with weights are meant",
    )


def generated_name(leaf: Pattern) -> Diagnostic:
    """QR308."""
    return Diagnostic(
        Code.GENERATED_NAME,
        f"`{leaf.matcher.text}` is a name that the tracer made up: it counts operations",
        Label(leaf.span, "changes when an operation is added above it"),
        help="select by kind or by neighbours: `add and follows(...)`, `output_of(...)`",
    )


def ambiguous_end(nth: Nth, rivals: Sequence[Site]) -> Diagnostic:
    """QR310."""
    word, where = ("first", "before") if nth.number == 0 else ("last", "after")
    return Diagnostic(
        Code.AMBIGUOUS_END,
        f"`{word}` is ambiguous: {len(rivals)} of the sites have none of the others {where} them",
        Label(nth.span, f"takes `{rivals[0 if nth.number == 0 else -1].key}`"),
        notes=some_paths(rivals),
        help="name the layer by its path, or select all of them",
    )

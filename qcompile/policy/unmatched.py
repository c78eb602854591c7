"""Selectors that select nothing in a model."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Applicability, Diagnostic, Fix, Label
from qcompile.diagnostics.suggest import nearest
from qcompile.policy.foreign_pattern import as_regex
from qcompile.policy.glob import Glob, escape_glob
from qcompile.policy.selection import Selection, leaves
from qcompile.policy.selector import (
    AllOf,
    Inside,
    OfKind,
    OfOp,
    OfParameter,
    Pattern,
    Selector,
    Subtree,
)
from qcompile.policy.site import Site

MAX_PATHS = 5

Names: TypeAlias = Pattern | Inside | OfParameter | Subtree | OfOp
"""Leaves with a text that is meant to name something."""


def unmatched_patterns(selector: Selector, selection: Selection) -> list[Diagnostic]:
    """A pattern is meant to name something: in ``except`` and ``none(...)`` as well."""
    return [
        unmatched_pattern(leaf, selection.sites)
        for leaf in leaves(selector)
        if isinstance(leaf, Names) and not selection.of(leaf)
    ]


def unmatched_pattern(leaf: Names, sites: Sequence[Site]) -> Diagnostic:
    """QR301."""
    text = leaf.op if isinstance(leaf, OfOp) else leaf.matcher.text
    guesses = nearest(text, names_for(leaf, sites), 3)
    other = _elsewhere(leaf, sites)
    listed = ", ".join(f"`{guess}`" for guess in guesses)
    fixes: tuple[Fix, ...] = ()
    if len(guesses) == 1 and isinstance(leaf, Pattern) and other is None:
        replacement = f'"{escape_glob(guesses[0])}"'
        fixes = (Fix(leaf.span, replacement, Applicability.UNSAFE),)
    return Diagnostic(
        Code.UNMATCHED_PATTERN,
        f"pattern `{text}` matches nothing in this model",
        Label(leaf.span, "no such path" if not isinstance(leaf, OfOp) else "no such operation"),
        help=other
        or (f"the nearest are {listed}" if guesses else None)
        or "list the paths with `qcompile select any RECIPE`, "
        "or write `optional` in front of the rule",
        fixes=fixes,
    )


def names_for(leaf: Names, sites: Iterable[Site]) -> set[str]:
    """What the text of ``leaf`` is compared with."""
    match leaf:
        case OfOp():
            return {site.op for site in sites}
        case Pattern():
            return {site.path for site in sites}
        case OfParameter():
            return {site.weight.path for site in sites if site.weight is not None}
        case Inside():
            return {scope for site in sites for scope in site.scopes}
        case Subtree():
            return {path for site in sites for path in (site.path, *site.scopes)}


def _elsewhere(leaf: Names, sites: Sequence[Site]) -> str | None:
    """The way out where the pattern names something, but not as this selector reads it."""
    if not isinstance(leaf, OfOp) and isinstance(leaf.matcher, Glob):
        regex = as_regex(leaf.matcher.text)
        if regex is not None and any(map(regex.matches, names_for(leaf, sites))):
            return f'it is a glob; as a regular expression it would match: write `re"{regex.text}"`'
    match leaf:
        case Pattern(matcher):
            below = [site for site in sites if any(map(matcher.matches, site.scopes))]
            if below:
                text = matcher.text
                return f'it is a module with {len(below)} inside: write `inside("{text}")`'
        case Inside(matcher):
            if any(matcher.matches(site.path) for site in sites):
                return f'it has nothing inside: write "{matcher.text}" for itself'
        case _:
            pass
    return None


def empty_selection(selector: Selector, selection: Selection) -> Diagnostic:
    """QR302."""
    if isinstance(selector, OfKind):
        message = f"rule selects nothing: the model has no `{selector.kind.value}`"
    elif isinstance(selector, AllOf):
        message = "rule selects nothing, although each of its parts may"
    else:
        message = "rule selects nothing"
    parts = list(_parts(selector)) if isinstance(selector, AllOf) else []
    notes = [f"`{_text(part)}` selects {_sites(len(selection.of(part)))}" for part in parts]
    return Diagnostic(
        Code.EMPTY_SELECTION,
        message,
        Label(selector.span, "no site"),
        notes=(*notes[:MAX_PATHS], *(["together they select none"] if parts else [])),
        help="list the paths with `qcompile select any RECIPE`, "
        "or write `optional` in front of the rule",
    )


def _parts(selector: AllOf) -> Iterable[Selector]:
    for item in selector.items:
        if isinstance(item, AllOf):
            yield from _parts(item)
        else:
            yield item


def _text(selector: Selector) -> str:
    return " ".join(selector.span.text.split())


def _sites(count: int) -> str:
    return "1 site" if count == 1 else f"{count} sites"


def some_paths(sites: Iterable[Site]) -> tuple[str, ...]:
    """At most five paths, then how many more: for the notes of a diagnostic."""
    keys = [site.key for site in sites]
    more = len(keys) - MAX_PATHS
    return (*keys[:MAX_PATHS], *([f"and {more} more"] if more > 0 else []))

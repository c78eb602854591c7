"""Bind the ``tune ... for`` statements to sites: of those that select one, the last counts."""

from collections.abc import Mapping, Sequence

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.frozen import frozen
from qcompile.methods.tuning import Tuning
from qcompile.policy.recipe import Recipe, Tune
from qcompile.policy.selection import Selection
from qcompile.policy.site import Site
from qcompile.policy.unmatched import empty_selection, some_paths, unmatched_patterns


@frozen
class Stretch:
    """A block as it will be learned, or a stretch between blocks."""

    name: str
    sites: tuple[Site, ...]
    """Those whose weight is quantized: they are what a tuning decides."""


def tuned_sites(
    recipe: Recipe, selection: Selection, stretches: Sequence[Stretch]
) -> tuple[Mapping[str, Tune], list[Diagnostic]]:
    """By ``Site.key``; what is not there has the recipe's general tuning."""
    diagnostics: list[Diagnostic] = []
    chosen: dict[int, Tune] = {}
    for tune in recipe.tunes:
        found = unmatched_patterns(tune.selector, selection)
        selected = selection.of(tune.selector)
        if not found and not selected:
            found = [empty_selection(tune.selector, selection)]
        diagnostics += found
        chosen |= dict.fromkeys(sorted(selected), tune)
    tuned: dict[str, Tune] = {}
    for stretch in stretches:
        winners = {site.key: chosen.get(site.index) for site in stretch.sites}
        split = _split(recipe.tuning, stretch, winners)
        diagnostics += [] if split is None else [split]
        tuned |= {key: tune for key, tune in winners.items() if tune is not None}
    if not diagnostics:
        diagnostics += _without_effect(recipe, tuned, stretches)
    return tuned, diagnostics


def _split(
    general: Tuning, stretch: Stretch, winners: Mapping[str, Tune | None]
) -> Diagnostic | None:
    """A block that is learned as one has one tuning."""
    distinct = {id(tune): tune for tune in winners.values()}
    tunings = [general if tune is None else tune.tuning for tune in distinct.values()]
    whole = any(one.learns_whole for one in tunings)
    if len(distinct) == 1 or not whole or not stretch.sites:
        return None
    blamed = next(tune for tune in distinct.values() if tune is not None)
    inside = [site for site in stretch.sites if winners[site.key] is blamed]
    outside = [site for site in stretch.sites if winners[site.key] is not blamed]
    return splits_block(blamed, stretch.name, inside, outside)


def _without_effect(
    recipe: Recipe, tuned: Mapping[str, Tune], stretches: Sequence[Stretch]
) -> list[Diagnostic]:
    if not any(stretch.sites for stretch in stretches):
        return []
    used = {id(tune) for tune in tuned.values()}
    return [tunes_nothing(tune) for tune in recipe.tunes if id(tune) not in used]


def splits_block(
    tune: Tune, block: str, inside: Sequence[Site], outside: Sequence[Site]
) -> Diagnostic:
    """QR716."""
    return Diagnostic(
        Code.SPLIT_BLOCK,
        f"`for` selects a part of the block `{block}`, which is learned as one",
        Label(tune.selector.span, f"selects {len(inside)} of {len(inside) + len(outside)} layers"),
        notes=(
            *(f"selected: {path}" for path in some_paths(inside)),
            *(f"not selected: {path}" for path in some_paths(outside)),
        ),
        help="select the whole block, name other `blocks`, or write `partition = layer`",
    )


def tunes_nothing(tune: Tune) -> Diagnostic:
    """QR303."""
    return Diagnostic(
        Code.UNREACHABLE_RULE,
        "unreachable `tune`: it decides no quantized weight",
        Label(tune.selector.span, "float, without weights, or selected again by a later `tune`"),
        help="delete it, or move it down",
    )

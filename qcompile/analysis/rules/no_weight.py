"""A scheme with a weight format on sites that have no weight to pack."""

from collections import defaultdict
from collections.abc import Iterator

from qcompile.analysis.context import Context
from qcompile.analysis.decide import quantizes_weight
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.recipe import Rule
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.site import Site

SHOWN = 5


def no_weight(context: Context) -> Iterator[Diagnostic]:
    """QR515: one for each rule, when every site that it decides is without a weight."""
    without: dict[int, list[Site]] = defaultdict(list)
    rules: dict[int, Rule] = {}
    with_weight: set[int] = set()
    for site, decision in context.decided():
        if decision.rule is None or decision.scheme is None:
            continue
        scheme = context.recipe.schemes[decision.scheme]
        if not isinstance(scheme.weight, QuantSlot):
            continue
        place = id(decision.rule)
        rules[place] = decision.rule
        if quantizes_weight(site, decision):
            with_weight.add(place)
        else:
            without[place].append(site)
    for place, sites in without.items():
        if place not in with_weight:
            yield weight_unused(rules[place], sites)


def weight_unused(rule: Rule, sites: list[Site]) -> Diagnostic:
    """QR515."""
    more = f" and {len(sites) - SHOWN} more" if len(sites) > SHOWN else ""
    listed = ", ".join(site.path for site in sites[:SHOWN])
    return Diagnostic(
        Code.NO_WEIGHT,
        "the scheme's weight format has nothing to act on here",
        Label(rule.span, f"selects {len(sites)} sites without a weight"),
        notes=(f"{listed}{more}",),
        help="use a scheme with `act` alone for them",
    )

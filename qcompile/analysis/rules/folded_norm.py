"""A rule for a norm that a convolution takes in acts on nothing."""

from collections.abc import Iterator

from qcompile.analysis.context import Context
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.recipe import Rule
from qcompile.policy.site import Site
from qcompile.policy.unmatched import some_paths


def folded_norm(context: Context) -> Iterator[Diagnostic]:
    """QR505: one for each rule that has a say on folded sites alone."""
    left = {site.key for site in context.sites}
    gone: dict[int, tuple[Rule, list[Site]]] = {}
    acting: set[int] = set()
    for decision in context.resolution.decisions:
        for rule in (step.rule for step in decision.trace if step.won):
            if decision.site.key in left:
                acting.add(id(rule))
            else:
                gone.setdefault(id(rule), (rule, []))[1].append(decision.site)
    for place, (rule, sites) in gone.items():
        if place not in acting:
            yield acts_on_nothing(rule, sites)


def acts_on_nothing(rule: Rule, sites: list[Site]) -> Diagnostic:
    """QR505."""
    what = f"`{sites[0].key}` is" if len(sites) == 1 else f"all {len(sites)} sites are"
    return Diagnostic(
        Code.FOLDED_NORM,
        f"the rule has no effect: {what} folded into the layer before",
        Label(rule.span, "acts on nothing"),
        notes=some_paths(sites),
        help="write the rule for the convolution, or `skip` the norm to keep it apart",
    )

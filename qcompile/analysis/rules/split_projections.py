"""Projections of one input that kernels run as one product should have one weight format."""

from collections.abc import Iterator, Sequence

from qcompile.analysis.context import Context
from qcompile.analysis.fusions import parallel_projections
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.resolution import Decision
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.site import Site


def split_projections(context: Context) -> Iterator[Diagnostic]:
    """QR506: once for each pair of rules that splits a group, with the first group it splits."""
    seen: set[tuple[object, ...]] = set()
    for group in parallel_projections(context.sites):
        decided = [(site, context.decisions[site.key]) for site in group]
        formats = {_format(decision) for _, decision in decided}
        if len(formats) < 2:
            continue
        rules = tuple(dict.fromkeys(d.rule.span for _, d in decided if d.rule is not None))
        if rules and rules not in seen:
            seen.add(rules)
            yield differ(decided, [Label(span) for span in rules])


def _format(decision: Decision) -> str:
    spec = decision.slots["weight"]
    return f"{spec.format} {spec.granularity}" if isinstance(spec, QuantSlot) else "float"


def differ(decided: Sequence[tuple[Site, Decision]], rules: Sequence[Label]) -> Diagnostic:
    """QR506."""
    sites = ", ".join(f"`{site.key}`" for site, _ in decided)
    return Diagnostic(
        Code.SPLIT_PROJECTIONS,
        f"{sites} read one input but get different weight formats",
        Label(rules[-1].span, "decides some of them"),
        secondary=tuple(Label(rule.span, "decides others") for rule in rules[:-1]),
        notes=tuple(f"{site.key}: {_format(decision)}" for site, decision in decided),
        help="give them one format: runtimes compute such layers as one product",
    )

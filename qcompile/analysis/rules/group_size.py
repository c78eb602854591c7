"""A group size has to divide the rows of every weight that it cuts."""

from collections import defaultdict
from collections.abc import Iterator
from math import gcd, prod

from qcompile.analysis.context import Context
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.policy.scheme import PerGroup
from qcompile.policy.site import Site

SHOWN = 5


def row_length(site: Site) -> int:
    """Weights that one output channel has: what groups are cut from."""
    assert site.weight is not None
    shape = site.weight.shape
    return prod(shape) // max(shape[site.output_axis], 1)


def group_size(context: Context) -> Iterator[Diagnostic]:
    """QR501: one diagnostic for each place in the recipe that sets such a size."""
    wrong: dict[tuple[Span, int], list[tuple[Site, Span]]] = defaultdict(list)
    for site, decision, spec in context.weights():
        granularity = spec.granularity
        if isinstance(granularity, PerGroup) and row_length(site) % granularity.size:
            assert decision.rule is not None
            place = (context.slot_span(decision, "weight"), granularity.size)
            wrong[place].append((site, decision.rule.span))
    for (span, size), found in wrong.items():
        yield does_not_divide(span, size, found)


def does_not_divide(span: Span, size: int, found: list[tuple[Site, Span]]) -> Diagnostic:
    """QR501."""
    sites = [site for site, _ in found]
    listed = tuple(f"{site.path} (rows of {row_length(site)})" for site in sites[:SHOWN])
    more = (f"and {len(sites) - SHOWN} more",) if len(sites) > SHOWN else ()
    common = gcd(*(row_length(site) for site in sites))
    works = [n for n in range(min(size, common), 0, -1) if common % n == 0][:3]
    rules = dict.fromkeys(rule for _, rule in found)
    return Diagnostic(
        Code.GROUP_SIZE,
        f"group size {size} does not divide the rows of {len(sites)} "
        f"layer{'s' if len(sites) > 1 else ''}",
        Label(span, f"groups of {size}"),
        secondary=tuple(Label(rule, "applied here") for rule in rules if rule != span),
        notes=(*listed, *more),
        help=f"{', '.join(map(str, works))} divide{'s' if len(works) == 1 else ''} all of them; "
        f"or add a line such as: set weight.group_size = {works[0]} for {sites[0].path!r}".replace(
            "'", '"'
        ),
    )

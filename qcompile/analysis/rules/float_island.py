"""A site that stays in float between quantized ones costs two conversions and saves nothing."""

from collections.abc import Iterator, Sequence

from qcompile.analysis.context import Context
from qcompile.analysis.islands import islands
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.policy.site import Site
from qcompile.policy.unmatched import some_paths


def float_island(context: Context) -> Iterator[Diagnostic]:
    """QR509: one for all of them."""
    found = islands(context.graph.graph, context.sites, context.decisions)
    if found:
        yield between_quantized(found)


def between_quantized(sites: Sequence[Site]) -> Diagnostic:
    """QR509."""
    what = f"`{sites[0].key}` stays" if len(sites) == 1 else f"{len(sites)} sites stay"
    return Diagnostic(
        Code.FLOAT_ISLAND,
        f"{what} in float between quantized sites",
        subject=sites[0].key,
        notes=some_paths(sites) if len(sites) > 1 else (),
        help="quantize it as well, or `skip` it to say that it is meant",
    )

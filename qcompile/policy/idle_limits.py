"""Limits of a ``budget`` that hold whatever the policy says."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.assertion import Measured, claim_holds
from qcompile.policy.claim import Total, measures
from qcompile.policy.recipe import Budget, Limit
from qcompile.policy.resolution import Resolution
from qcompile.policy.site import Site


def idle_limits(
    budget: Budget | None,
    sites: Sequence[Site],
    resolution: Resolution,
    measured: Measured,
    bytes_float: int,
) -> Iterator[Diagnostic]:
    """QR602 for each limit on the size that the model keeps as it is, with ``bytes_float``."""
    in_float = replace(measured, bytes_total=bytes_float)
    for limit in budget.limits if budget else ():
        found = list(measures(limit.claim))
        only_size = all(isinstance(one, Total) and one.which == "size" for one in found)
        if only_size and claim_holds(limit.claim, sites, resolution, in_float):
            yield idle_limit(limit, bytes_float)


def idle_limit(limit: Limit, bytes_float: int) -> Diagnostic:
    """QR602."""
    return Diagnostic(
        Code.IDLE_LIMIT,
        f"`{' '.join(limit.span.text.split())}` holds whatever the policy says",
        Label(limit.claim.span, f"the model takes {bytes_float:,} bytes as it is"),
        help="leave the row out, or ask for less",
    )

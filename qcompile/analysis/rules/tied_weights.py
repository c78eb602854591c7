"""Sites that share one weight tensor have to agree on its format."""

from collections.abc import Iterator

from qcompile.analysis.context import Context
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.resolution import Decision
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.site import Site


def tied_weights(context: Context) -> Iterator[Diagnostic]:
    """QR502: each later site that disagrees with the first one of its storage."""
    decisions = {site.key: decision for site, decision in context.decided()}
    first: dict[str, Site] = {}
    for site in context.sites:
        if site.weight is None or not site.shared:
            continue
        other = first.setdefault(site.weight.storage, site)
        ours, theirs = decisions.get(site.key), decisions.get(other.key)
        if _format(ours) != _format(theirs):
            yield disagree(site, ours, other, theirs)


def _format(decision: Decision | None) -> QuantSlot | None:
    """``None``: stays in float."""
    slot = decision.slots["weight"] if decision is not None else None
    return slot if isinstance(slot, QuantSlot) else None


def disagree(site: Site, ours: Decision | None, other: Site, theirs: Decision | None) -> Diagnostic:
    """QR502."""
    labels = [
        Label(decision.rule.span, f"decides `{at.key}`")
        for at, decision in ((site, ours), (other, theirs))
        if decision is not None and decision.rule is not None
    ]
    return Diagnostic(
        Code.TIED_WEIGHTS,
        f"`{site.key}` and `{other.key}` share one weight but get different formats",
        labels[0],
        secondary=tuple(label for label in labels[1:] if label.span != labels[0].span),
        notes=(f"{site.key}: {_shown(ours)}; {other.key}: {_shown(theirs)}",),
        help=_way_out(site, other),
    )


def _way_out(site: Site, other: Site) -> str:
    if site.path == other.path:  # calls of one module
        return "give both the same scheme, or `skip` both"
    own = f'`set untie = true for "{site.path}"`'
    return f"give both the same scheme, `skip` both, or give one a copy of its own: {own}"


def _shown(decision: Decision | None) -> str:
    spec = _format(decision)
    return "float" if spec is None else f"{spec.format} {spec.granularity}"

"""Sites that share one weight tensor have to agree on its format."""

from collections import Counter
from collections.abc import Iterator

from qcompile.analysis.context import Context
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.resolution import Decision
from qcompile.policy.scheme import PerTensor, QuantSlot
from qcompile.policy.site import Site


def tied_weights(context: Context) -> Iterator[Diagnostic]:
    """QR502: each later site that disagrees with the first one of its storage."""
    decisions = {site.key: decision for site, decision in context.decided()}
    calls = Counter(site.path for site in context.sites)
    first: dict[str, Site] = {}
    for site in context.sites:
        if site.weight is None or not site.shared:
            continue
        other = first.setdefault(site.weight.storage, site)
        ours, theirs = decisions.get(site.key), decisions.get(other.key)
        if _format(site, ours) != _format(other, theirs):
            alone = next((one.path for one in (site, other) if calls[one.path] == 1), None)
            yield disagree(site, ours, other, theirs, alone)


def _format(site: Site, decision: Decision | None) -> tuple[QuantSlot, int] | None:
    """With the axis of its channels; ``None``: stays in float."""
    slot = decision.slots["weight"] if decision is not None else None
    if not isinstance(slot, QuantSlot):
        return None
    return slot, 0 if isinstance(slot.granularity, PerTensor) else site.output_axis


def disagree(
    site: Site, ours: Decision | None, other: Site, theirs: Decision | None, alone: str | None
) -> Diagnostic:
    """QR502. ``alone``: the path of one that may have a copy of its own."""
    labels = [
        Label(decision.rule.span, f"decides `{at.key}`")
        for at, decision in ((site, ours), (other, theirs))
        if decision is not None and decision.rule is not None
    ]
    one, two = _format(site, ours), _format(other, theirs)
    same = one is not None and two is not None and one[0] == two[0]  # along another axis
    ways = ["make it `per_tensor`" if same else "give both the same scheme", "`skip` both"]
    if alone is not None:
        ways.append(f'give one a copy of its own: `set untie = true for "{alone}"`')
    return Diagnostic(
        Code.TIED_WEIGHTS,
        f"`{site.key}` and `{other.key}` share one weight but get different formats",
        labels[0],
        secondary=tuple(label for label in labels[1:] if label.span != labels[0].span),
        notes=(f"{_shown(site, ours)}; {_shown(other, theirs)}",),
        help=f"{', '.join(ways[:-1])}, or {ways[-1]}",
    )


def _shown(site: Site, decision: Decision | None) -> str:
    found = _format(site, decision)
    if found is None:
        return f"{site.key}: float"
    spec, axis = found
    along = f" along axis {axis}" if axis else ""
    return f"{site.key}: {spec.format} {spec.granularity}{along}"

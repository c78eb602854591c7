"""Sites that stay in float although everything around them is quantized."""

from collections.abc import Mapping, Sequence

from torch import fx

from qcompile.policy.resolution import Decision
from qcompile.policy.site import Kind, Site


def islands(
    graph: fx.Graph, sites: Sequence[Site], decisions: Mapping[str, Decision]
) -> tuple[Site, ...]:
    """Sites no rule decides, of a kind that is quantized elsewhere, between quantized sites.

    Between means that every path from an input to the site, and every one from it to an output,
    passes a site with a quantized operand. A ``skip`` says that somebody wanted it so.
    """
    at = {site.node: site for site in sites}
    quantized = {site.node for site in sites if _reads_codes(decisions.get(site.key))}
    kinds: set[Kind] = {site.kind for site in sites if site.node in quantized}
    nodes = [node for node in graph.nodes if node.op != "get_attr"]
    before = _sheltered(nodes, quantized, forwards=True)
    after = _sheltered(nodes[::-1], quantized, forwards=False)
    return tuple(
        site
        for name, site in at.items()
        if name not in quantized
        and site.kind in kinds
        and _is_undecided(decisions.get(site.key))
        and name in before & after
    )


def _sheltered(nodes: Sequence[fx.Node], quantized: set[str], *, forwards: bool) -> set[str]:
    """Names of nodes that no path from the end where ``nodes`` begin reaches unquantized."""
    found: set[str] = set()
    for node in nodes:
        neighbours = node.all_input_nodes if forwards else list(node.users)
        beyond = [item for item in neighbours if item.op != "get_attr"]
        if beyond and all(item.name in quantized or item.name in found for item in beyond):
            found.add(node.name)
    return found


def _reads_codes(decision: Decision | None) -> bool:
    return decision is not None and any(slot != "weight" for slot, _ in decision.quantized)


def _is_undecided(decision: Decision | None) -> bool:
    return decision is None or decision.is_untouched

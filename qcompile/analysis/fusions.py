"""Sites that kernels compute as one operation, read off the sites alone."""

from collections.abc import Iterator, Mapping, Sequence

from qcompile.policy.graph_facts import Fusion, FusionKind
from qcompile.policy.neighbours import fused_layers
from qcompile.policy.site import Kind, Site

WEIGHTED = (Kind.CONV, Kind.LINEAR, Kind.EMBEDDING)
PRODUCTS = (Kind.MATMUL, Kind.ATTENTION)


def fusions(sites: Sequence[Site]) -> tuple[Fusion, ...]:
    by_index = {site.index: site for site in sites}
    found = [
        Fusion(kind="layer", sites=tuple(by_index[index].key for index in group))
        for group in fused_layers(sites)
        if len(group) > 1
    ]
    readers = _readers(sites)
    found.extend(_norms(sites, readers))
    found.extend(
        Fusion(kind=_purpose(group, readers), sites=tuple(site.key for site in group))
        for group in parallel_projections(sites)
    )
    return tuple(found)


def parallel_projections(sites: Sequence[Site]) -> list[list[Site]]:
    """Linear layers of one module that read one value: kernels make one product of them."""
    groups: dict[tuple[str, ...], list[Site]] = {}
    for site in sites:
        if site.kind is Kind.LINEAR and site.weight is not None and len(site.operands) == 1:
            groups.setdefault((site.operands[0], *site.scopes[-1:]), []).append(site)
    return [group for group in groups.values() if len({site.path for site in group}) > 1]


def _norms(sites: Sequence[Site], readers: Mapping[int, list[Site]]) -> Iterator[Fusion]:
    """A norm that only linear layers read: its gain can be worked into their weights."""
    for site in sites:
        after = readers.get(site.index, [])
        if site.kind is Kind.NORM and after and all(s.kind is Kind.LINEAR for s in after):
            yield Fusion(kind="norm-linear", sites=(site.key, *(s.key for s in after)))


def _readers(sites: Sequence[Site]) -> dict[int, list[Site]]:
    found: dict[int, list[Site]] = {}
    for site in sites:
        for index in site.producers:
            found.setdefault(index, []).append(site)
    return found


def _purpose(group: Sequence[Site], readers: Mapping[int, list[Site]]) -> FusionKind:
    """By what becomes of the results before the next layer with weights."""
    reached = [_kinds_after(site, readers) for site in group]
    if all(kinds.intersection(PRODUCTS) for kinds in reached):
        return "qkv"
    if len(group) == 2 and all(Kind.MUL in kinds for kinds in reached):
        return "gate-up"
    return "common-input"


def _kinds_after(site: Site, readers: Mapping[int, list[Site]]) -> set[Kind]:
    kinds: set[Kind] = set()
    seen = {site.index}
    waiting = [site.index]
    while waiting:
        for reader in readers.get(waiting.pop(), []):
            if reader.index in seen or reader.kind in WEIGHTED or reader.weight is not None:
                continue
            kinds.add(reader.kind)
            seen.add(reader.index)
            if reader.kind not in PRODUCTS:
                waiting.append(reader.index)
    return kinds

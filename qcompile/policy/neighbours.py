"""Sites that stand to chosen sites in some relation of the graph; each in linear time."""

from collections.abc import Iterable, Sequence
from typing import assert_never

from qcompile.policy.selector import Relation
from qcompile.policy.site import Kind, Site

ANCHORS = (Kind.CONV, Kind.LINEAR)
"""What a batch norm and an activation can be worked into."""
BATCH_NORM = "batchnorm"


def related(relation: Relation, sites: Sequence[Site], chosen: frozenset[int]) -> frozenset[int]:
    """``Site.index`` of the sites that stand in ``relation`` to one of ``chosen``."""
    match relation:
        case "input_of" | "inputs_of":
            return frozenset(
                index for site in sites if site.index in chosen for index in site.producers
            )
        case "output_of":
            return frozenset(site.index for site in sites if not chosen.isdisjoint(site.producers))
        case "follows":
            return _downstream(sites, chosen)
        case "precedes":
            return _upstream(sites, chosen)
        case "fused_with":
            return _others(fused_layers(sites), chosen)
        case "same_weight_as":
            return _others(_by_weight(sites), chosen)
        case _:
            assert_never(relation)


def _downstream(sites: Sequence[Site], chosen: frozenset[int]) -> frozenset[int]:
    """A site comes after all that it reads, so that one sweep is enough."""
    reached: set[int] = set()
    for site in sites:
        if any(index in chosen or index in reached for index in site.producers):
            reached.add(site.index)
    return frozenset(reached)


def _upstream(sites: Sequence[Site], chosen: frozenset[int]) -> frozenset[int]:
    reached: set[int] = set()
    for site in reversed(sites):
        if site.index in chosen or site.index in reached:
            reached.update(site.producers)
    return frozenset(reached)


def _others(groups: Iterable[Sequence[int]], chosen: frozenset[int]) -> frozenset[int]:
    """Members of a group that have a chosen one beside them."""
    found: set[int] = set()
    for group in groups:
        inside = [index for index in group if index in chosen]
        if len(inside) == 1:
            found.update(index for index in group if index != inside[0])
        elif inside:
            found.update(group)
    return frozenset(found)


def _by_weight(sites: Sequence[Site]) -> Iterable[Sequence[int]]:
    groups: dict[str, list[int]] = {}
    for site in sites:
        if site.weight is not None:
            groups.setdefault(site.weight.storage, []).append(site.index)
    return groups.values()


def fused_layers(sites: Sequence[Site]) -> Iterable[Sequence[int]]:
    """A layer, its batch norm and its activation, as far as nothing else reads in between."""
    readers: dict[int, int] = {}
    for site in sites:
        for index in site.producers:
            readers[index] = readers.get(index, 0) + 1
    by_index = {site.index: site for site in sites}
    groups: dict[int, list[int]] = {}
    for site in sites:
        if site.kind in ANCHORS:
            groups[site.index] = [site.index]
        elif len(site.producers) == 1:
            (before,) = site.producers
            group = groups.get(before)
            if group and readers[before] == 1 and _joins(site, by_index[before]):
                group.append(site.index)
                groups[site.index] = group
    return [group for index, group in groups.items() if group[0] == index]


def _joins(site: Site, before: Site) -> bool:
    if site.kind is Kind.NORM:
        return before.kind in ANCHORS and BATCH_NORM in site.op.lower().replace("_", "")
    return site.kind is Kind.ACTIVATION and before.kind is not Kind.ACTIVATION

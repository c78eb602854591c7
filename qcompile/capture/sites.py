"""List what a recipe can select in a captured graph."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import fx

from qcompile.capture.geometry import geometry_of
from qcompile.capture.macs import batch_size, macs
from qcompile.capture.main_path import main_nodes
from qcompile.capture.node_meta import facts
from qcompile.capture.operands import Weights, activations, site_kind, weights_of
from qcompile.capture.operations import written_name
from qcompile.capture.places import Place, places_of
from qcompile.capture.storages import storages_of
from qcompile.compat.submodules import module_at
from qcompile.policy.site import Kind, Parameter, Site


@dataclass(frozen=True, slots=True)
class _Upstream:
    """What lies before a node: the nearest sites, and the most weighted sites on one path."""

    nearest: frozenset[int]
    depth: int


def find_sites(module: fx.GraphModule) -> tuple[Site, ...]:
    """In execution order. Values that no parameter has touched (masks, positions) have none."""
    main = main_nodes(module)
    storages = storages_of(module)
    places = places_of(module, main)
    calls = Counter(place.path for place in places.values())
    owners = _owners(module, places, storages)
    batch = batch_size(module.graph)
    upstream: dict[fx.Node, _Upstream] = {}
    sites: list[Site] = []
    for node in module.graph.nodes:
        before = _merge([upstream[item] for item in node.all_input_nodes])
        place = places.get(node)
        if place is None:
            upstream[node] = before
            continue
        weights = weights_of(node, module)
        shared = calls[place.path] > 1 or _is_tied(weights, owners, storages)
        site = _site(module, node, place, weights, storages, batch, before, len(sites), shared)
        upstream[node] = _Upstream(
            frozenset({site.index}), before.depth + (site.weight is not None)
        )
        sites.append(site)
    return tuple(sites)


def _site(
    module: fx.GraphModule,
    node: fx.Node,
    place: Place,
    weights: Weights,
    storages: Mapping[str, str],
    batch: int,
    before: _Upstream,
    index: int,
    shared: bool,
) -> Site:
    kind = cast("Kind", site_kind(node, module))
    operands = activations(node, module)
    geometry = geometry_of(node, module, kind, weights)
    return Site(
        index=index,
        node=node.name,
        path=place.path,
        call=place.call,
        kind=kind,
        op=written_name(node, module),
        scopes=tuple(call.path for call in facts(node).stack if call.path != place.path),
        weight=_parameter(module, weights.weight, storages),
        bias=_parameter(module, weights.bias, storages),
        operands=tuple(operand.name for operand in operands),
        producers=tuple(sorted(before.nearest)),
        groups=geometry.groups,
        kernel=geometry.kernel,
        stride=geometry.stride,
        in_features=geometry.in_features,
        out_features=geometry.out_features,
        params=_parameter_count(node, module, weights),
        depth=before.depth,
        macs=macs(node, kind, operands, geometry, batch),
        shared=shared,
        output_axis=weights.output_axis,
    )


def _merge(inputs: Sequence[_Upstream]) -> _Upstream:
    nearest = frozenset(index for item in inputs for index in item.nearest)
    return _Upstream(nearest, max((item.depth for item in inputs), default=0))


def _owners(
    module: fx.GraphModule, places: Mapping[fx.Node, Place], storages: Mapping[str, str]
) -> Counter[str]:
    """How many sites read each storage as their weight."""
    weights = (weights_of(node, module).weight for node in places)
    return Counter(storages[weight] for weight in weights if weight is not None)


def _is_tied(weights: Weights, owners: Counter[str], storages: Mapping[str, str]) -> bool:
    return weights.weight is not None and owners[storages[weights.weight]] > 1


def _parameter(
    module: fx.GraphModule, path: str | None, storages: Mapping[str, str]
) -> Parameter | None:
    if path is None:
        return None
    tensor = module.get_parameter(path)
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Parameter(path, tuple(tensor.shape), dtype, storages[path])


def _parameter_count(node: fx.Node, module: fx.GraphModule, weights: Weights) -> int:
    if node.op == "call_module":
        return sum(p.numel() for p in module_at(module, str(node.target)).parameters())
    paths = (path for path in (weights.weight, weights.bias) if path is not None)
    return sum(module.get_parameter(path).numel() for path in paths)

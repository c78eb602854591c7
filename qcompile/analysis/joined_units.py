"""``partition = stage | network``: neighbouring units that are learned, and committed, as one.

A *stage* is a run of blocks whose main outputs have the same shape: between two changes of
resolution in a convolutional network, all blocks of a transformer. *network* is everything that has
the tuning and lies side by side. Another tuning ends either.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

from torch import fx

from qcompile.capture.node_meta import facts
from qcompile.capture.unit import Unit
from qcompile.methods.tuning import Tuning
from qcompile.policy.core import SitePlan


def joined(
    graph: fx.GraphModule, units: Sequence[Unit], tunings: Mapping[str, Tuning]
) -> tuple[Unit, ...]:
    """``tunings`` are by unit name, of the units with a weight to quantize."""
    nodes = {node.name: node for node in graph.graph.nodes}
    groups: list[list[Unit]] = []
    for unit in units:
        if groups and _continues(groups[-1], unit, tunings, nodes):
            groups[-1].append(unit)
        else:
            groups.append([unit])
    return tuple(_as_one(group, nodes) for group in groups)


def rehomed(planned: Sequence[SitePlan], units: Sequence[Unit]) -> tuple[SitePlan, ...]:
    """The plans, each with the name of the unit that its node is in now."""
    homes = {name: unit.name for unit in units for name in unit.nodes}
    return tuple(site.model_copy(update={"unit": homes[site.node]}) for site in planned)


def tunings_of_units(
    planned: Sequence[SitePlan], general: Tuning, tunings: Mapping[str, Tuning]
) -> dict[str, Tuning]:
    """By unit name, of the units with a weight to quantize; ``tunings`` are of sites, by key.

    Layers of a unit may differ where each is tuned alone; then it is that of the first.
    """
    found: dict[str, Tuning] = {}
    for site in planned:
        if site.has_weight:
            found.setdefault(site.unit, tunings.get(site.key, general))
    return found


def _continues(
    group: Sequence[Unit], unit: Unit, tunings: Mapping[str, Tuning], nodes: Mapping[str, fx.Node]
) -> bool:
    tuning = next((tunings[one.name] for one in group if one.name in tunings), None)
    if tuning is None or not tuning.learns or tunings.get(unit.name, tuning) != tuning:
        return False
    match tuning.partition:
        case "network":
            return True
        case "stage":
            last = group[-1]
            is_inside = last.is_block and unit.is_block
            return is_inside and _main_shape(last, nodes) == _main_shape(unit, nodes)
        case "layer" | "block":
            return False


def _main_shape(unit: Unit, nodes: Mapping[str, fx.Node]) -> tuple[int | str, ...] | None:
    """Of the output made last that holds floating-point numbers."""
    outputs = (facts(nodes[name]) for name in reversed(unit.nodes) if name in unit.outputs)
    return next((found.shape for found in outputs if found.is_float), None)


def _as_one(group: Sequence[Unit], nodes: Mapping[str, fx.Node]) -> Unit:
    if len(group) == 1:
        return group[0]
    inside = set(chain.from_iterable(unit.nodes for unit in group))
    read = dict.fromkeys(chain.from_iterable(unit.inputs for unit in group))
    made = chain.from_iterable(unit.outputs for unit in group)
    return Unit(
        name=f"{group[0].name}..{group[-1].name}",
        nodes=tuple(chain.from_iterable(unit.nodes for unit in group)),
        inputs=tuple(name for name in read if name not in inside),
        outputs=tuple(
            name for name in made if any(user.name not in inside for user in nodes[name].users)
        ),
        is_block=True,
    )

"""Bytes of the artifact's tensors, unit by unit, before anything is run."""

from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from torch import fx

from qcompile.capture.tensors import owned_tensors
from qcompile.capture.unit import Unit
from qcompile.policy.core import SitePlan, UnitPlan


def forecast(
    module: fx.GraphModule,
    units: Sequence[Unit],
    sites: Sequence[SitePlan],
    added: AbstractSet[str] = frozenset(),
) -> tuple[UnitPlan, ...]:
    """Exact sums of tensor bytes; a tensor counts in the unit that reads it first, once.

    ``bytes_before`` is what the tensors of the model take as they are, ``bytes_after`` what codes,
    scales, zero points, activation ranges and the tensors left in float will take.
    ``added`` are paths of tensors that the model did not have: none of them counts before.
    """
    unit_of = {name: unit.name for unit in units for name in unit.nodes}
    before: dict[str, int] = defaultdict(int)
    after: dict[str, int] = defaultdict(int)
    weights = {
        plan.storage: plan.bytes_after
        for site in sites
        for plan in site.tensors
        if plan.slot == "weight"
    }
    for owned in owned_tensors(module):
        if owned.storage != owned.path:
            continue
        unit = unit_of[owned.node]
        before[unit] += 0 if owned.path in added else owned.nbytes
        after[unit] += weights.get(owned.path, owned.nbytes)
    for site in sites:
        after[site.unit] += sum(plan.bytes_after for plan in site.tensors if plan.slot != "weight")
    keys: dict[str, list[str]] = defaultdict(list)
    for site in sites:
        keys[site.unit].append(site.key)
    return tuple(
        UnitPlan(
            name=unit.name,
            is_block=unit.is_block,
            sites=tuple(keys[unit.name]),
            bytes_before=before[unit.name],
            bytes_after=after[unit.name],
        )
        for unit in units
    )

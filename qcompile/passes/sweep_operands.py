"""Which arguments of a node a site's activation plans are about."""

from collections import defaultdict
from dataclasses import dataclass

from torch import fx

from qcompile.passes.sweep_node import occurrences
from qcompile.policy.core import SitePlan, TensorPlan


@dataclass(frozen=True, slots=True)
class Operand:
    """One quantized operand: the arguments ``positions`` (see ``occurrences``) that share it."""

    slot: str
    """``act`` for the first operand, ``act2``, ``act3``, .. for the further ones."""
    plan: TensorPlan
    node: str
    """Name of the node whose value is quantized."""
    positions: tuple[int, ...]


def operands(node: fx.Node, site: SitePlan) -> tuple[Operand, ...]:
    """The quantized operands of ``node``.

    When a node stands more than once among the arguments (``x @ x``), the plans that name it take
    its places in order, and the last of them takes the rest.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for position, used in enumerate(occurrences(node)):
        places[used.name].append(position)
    named = slot_names(site)
    left = {name: sum(plan.operand == name for _, plan in named) for name in places}
    found: list[Operand] = []
    for slot, plan in named:
        name = plan.operand or ""
        if not places[name]:
            raise ValueError(f"`{name}` is no argument of node `{node.name}` ({site.key})")
        left[name] -= 1
        taken = places[name][:1] if left[name] else places[name]
        places[name] = places[name][len(taken) :]
        found.append(Operand(slot, plan, name, tuple(taken)))
    return tuple(found)


def slot_names(site: SitePlan) -> tuple[tuple[str, TensorPlan], ...]:
    """The activation plans of a site with the names that their tensors carry on disk."""
    first = [("act", plan) for plan in site.tensors if plan.slot == "act"]
    further = [plan for plan in site.tensors if plan.slot == "act2"]
    return (*first, *((f"act{number}", plan) for number, plan in enumerate(further, start=2)))

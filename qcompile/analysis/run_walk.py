"""The walk of ``passes.sweep`` with sizes in place of values: what a forecast goes through.

A change of that walk is a change of the forecasts; ``make bench-forecast`` compares both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import fx

from qcompile.analysis.actual_sizes import ActualSizes
from qcompile.capture.unit import Unit
from qcompile.methods.tuning import Tuning
from qcompile.policy.core import SitePlan, TensorPlan
from qcompile.policy.site import Site


@dataclass(frozen=True)
class RunWalk:
    graph: fx.GraphModule
    sites: Mapping[str, Site]
    """By node name."""
    units: Sequence[Unit]
    planned: Mapping[str, SitePlan]
    """By node name."""
    tuning: Tuning
    tunings: Mapping[str, Tuning]
    """Of single sites, by key."""
    sizes: ActualSizes
    """Of one batch."""
    batches: float
    """The last one need not be full."""

    @cached_property
    def nodes(self) -> Mapping[str, fx.Node]:
        return {node.name: node for node in self.graph.graph.nodes}

    @cached_property
    def differs(self) -> frozenset[str]:
        """Nodes whose values in the quantized stream are not those of the float one."""
        found: set[str] = set()
        for unit in self.units:
            for name in unit.nodes:
                used = self.nodes[name].all_input_nodes
                if self.tensors(name) or any(one.name in found for one in used):
                    found.add(name)
        return frozenset(found)

    def streams(self, name: str) -> int:
        return 2 if name in self.differs else 1

    def tensors(self, name: str) -> Sequence[TensorPlan]:
        plan = self.planned.get(name)
        return () if plan is None else plan.tensors

    def operands(self, name: str) -> list[tuple[TensorPlan, fx.Node]]:
        """The quantized activations of a node."""
        return [(t, self.nodes[t.operand]) for t in self.tensors(name) if t.operand is not None]

    def weight(self, name: str) -> TensorPlan | None:
        return next((t for t in self.tensors(name) if t.slot == "weight"), None)

    def tuning_of(self, name: str) -> Tuning:
        return self.tunings.get(self.planned[name].key, self.tuning)

    def learned(self, unit: Unit) -> list[tuple[Sequence[str], Tuning]]:
        """The stretches of a unit that are learned as one: all of it, or each layer."""
        weighted = [name for name in unit.nodes if self.weight(name) is not None]
        tunings = [(name, self.tuning_of(name)) for name in weighted]
        for _, tuning in tunings:
            if tuning.learns_whole:
                return [(unit.nodes, tuning)]
        return [((name,), tuning) for name, tuning in tunings if tuning.learns]

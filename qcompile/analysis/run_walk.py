"""The walk of ``passes.sweep`` with sizes in place of values: what a forecast goes through.

A change of that walk is a change of the forecasts; ``make bench-forecast`` compares both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from torch import fx

from qcompile.analysis.actual_sizes import ActualSizes
from qcompile.capture.main_output import main_output
from qcompile.capture.node_meta import facts
from qcompile.capture.unit import Unit
from qcompile.methods.tuning import Tuning
from qcompile.policy.core import SitePlan, TensorPlan
from qcompile.policy.scheme import has_range_to_choose
from qcompile.policy.site import Site
from qcompile.quant.losses.registry import Sees, loss


@dataclass(frozen=True, slots=True)
class Stretch:
    """Nodes that are learned as one: those of a unit, or a single layer."""

    nodes: Sequence[str]
    output: str
    """The node whose value is fitted."""
    tuning: Tuning

    @property
    def views(self) -> frozenset[Sees]:
        """What the terms of the loss look at."""
        rows = ((loss(term.name), term.weight) for term in self.tuning.loss)
        return frozenset(
            row.sees for row, weight in rows if (row.weight if weight is None else weight)
        )

    @property
    def is_local(self) -> bool:
        """The loss is about the stretch's own output alone."""
        return self.views <= {"output"}

    @property
    def is_mean_square(self) -> bool:
        """The guard needs no more than the errors that it reports."""
        return all(t.name == "mse" and t.p in (None, 2) for t in self.tuning.loss if t.weight != 0)

    @property
    def feeds_other_values(self) -> bool:
        """A step is fed with other values than the deployed stretch will see."""
        tuning = self.tuning
        drops = tuning.drop in ("input", "both", "gradual") and tuning.keep_quantized < 1
        return drops or tuning.augment.name != "none" or tuning.inputs != "quantized"


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
    batch: int
    """Samples in a full one."""

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

    def chooses_range(self, name: str) -> bool:
        """The layer's solvers look for the range of its input."""
        free = (tensor for tensor, _ in self.operands(name) if tensor.shared_by is None)
        chooses = self.tuning_of(name).chooses_ranges
        return chooses and any(has_range_to_choose(tensor.spec) for tensor in free)

    def learned(self, unit: Unit) -> list[Stretch]:
        """The stretches of a unit that are learned as one: all of it, or each layer."""
        weighted = [name for name in unit.nodes if self.weight(name) is not None]
        tunings = [(name, self.tuning_of(name)) for name in weighted]
        for _, tuning in tunings:
            if tuning.learns_whole:
                return [Stretch(unit.nodes, self._main_output(unit), tuning)]
        return [Stretch((name,), name, tuning) for name, tuning in tunings if tuning.learns]

    def fitted(self, tuning: Tuning) -> float:
        """Batches that the tuning looks at."""
        if tuning.samples is None:
            return self.batches
        return min(self.batches, max(tuning.samples // self.batch, 1))

    def tail(self, stretch: Stretch) -> Sequence[fx.Node]:
        """The float rest of the network behind a stretch, where its loss is about that.

        As ``passes.tail`` finds it: what came before is cached. Empty if the network's output does
        not depend on the stretch.
        """
        if stretch.is_local or self.end is None:
            return ()
        done = max(self.position.get(name, -1) for name in stretch.nodes)
        needed: set[fx.Node] = {self.end}
        for node in reversed(self.graph.graph.nodes):
            if node in needed and self.position.get(node.name, -1) > done:
                needed.update(node.all_input_nodes)
        if self.nodes[stretch.output] not in needed:
            return ()
        return [node for node in needed if self.position.get(node.name, -1) > done]

    @cached_property
    def position(self) -> Mapping[str, int]:
        """In the order of the walk; of what is computed in it."""
        names = chain.from_iterable(unit.nodes for unit in self.units)
        return {name: at for at, name in enumerate(names) if self.nodes[name].op != "get_attr"}

    @cached_property
    def end(self) -> fx.Node | None:
        """The output of the network that metrics look at."""
        (output,) = self.graph.graph.find_nodes(op="output")
        return main_output(output.args[0])

    def _main_output(self, unit: Unit) -> str:
        made = sorted(unit.outputs, key=lambda name: self.position.get(name, -1), reverse=True)
        floats = (name for name in made if facts(self.nodes[name]).is_float)
        return next(floats, unit.nodes[-1])

"""Gains and biases of norms that are learned with the block around them (``learn = norm``)."""

from collections.abc import Mapping, Sequence

from torch import fx

from qcompile.analysis.own_parameters import OwnParameters
from qcompile.capture.kinds import MODULE_KINDS
from qcompile.capture.unit import Unit
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Span
from qcompile.methods.tuning import Tuning
from qcompile.policy.core import UnitPlan
from qcompile.policy.site import Kind
from qcompile.policy.tune_rules import illegal


def with_norms(
    graph: fx.GraphModule,
    units: Sequence[Unit],
    sizes: Sequence[UnitPlan],
    tunings: Mapping[str, Tuning],
) -> tuple[UnitPlan, ...]:
    """The units, with the parameters named that a run will learn; ``tunings`` are by unit name."""
    norms = own_norms(graph)
    nodes = {unit.name: unit.nodes for unit in units}

    def refits(unit: UnitPlan) -> tuple[str, ...]:
        tuning = tunings.get(unit.name)
        if tuning is None or not tuning.learns_norms:
            return ()
        return tuple(path for node in nodes[unit.name] for path in norms.get(node, ()))

    return tuple(unit.model_copy(update={"refits": refits(unit)}) for unit in sizes)


def own_norms(graph: fx.GraphModule) -> dict[str, tuple[str, ...]]:
    """By node name: paths of the parameters of norms that share none of them."""
    own = OwnParameters.of(graph)
    found: dict[str, tuple[str, ...]] = {}
    for node, path, leaf in own.calls():
        parameters = dict(leaf.named_parameters(recurse=False))
        if MODULE_KINDS.get(type(leaf)) is Kind.NORM and all(map(own.has, parameters.values())):
            found[node] = tuple(f"{path}.{name}" for name in parameters)
    return found


def no_norm(learn: Span) -> Diagnostic:
    """QR405."""
    return illegal(
        "no block that is learned has a norm of its own to learn",
        learn,
        "leave `norm` out; a batch norm is folded into the layer in front of it unless `skip`"
        " takes that layer out",
    )

"""A small net, traced and planned without a recipe, as a quantized graph and as an artifact."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from qcompile.capture.operands import site_kind
from qcompile.capture.trace import trace
from qcompile.emit.artifact import write_artifact
from qcompile.emit.materialize import materialize
from qcompile.policy.core import Plan
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.site import Kind
from qcompile.store.disk import Disk
from tests.emit.planning import plan_of, site_of, tensors_of_plan

KINDS = (Kind.LINEAR, Kind.CONV, Kind.MATMUL, Kind.EMBEDDING)


@dataclass(frozen=True, eq=False)
class Quantized:
    graph: fx.GraphModule
    plan: Plan
    tensors: dict[str, Tensor]
    module: fx.GraphModule
    """What ``load`` would give."""

    def written_to(self, directory: Path) -> Path:
        problems = write_artifact(Disk(), directory, self.graph, self.plan, self.tensors, {})
        assert problems == []
        return directory


def quantized(
    net: nn.Module,
    inputs: tuple[Tensor, ...],
    weight: QuantSlot | None,
    act: QuantSlot | None,
    only: str | None = None,
) -> Quantized:
    graph = trace(net.eval(), inputs, {}).module
    sites = [
        site_of(graph, node, weight, act).model_copy(update={"path": path_of(node)})
        for node in graph.graph.nodes
        if site_kind(node, graph) in KINDS and only in {None, path_of(node)}
    ]
    plan = plan_of(graph, sites)
    tensors = tensors_of_plan(graph, plan.core)
    return Quantized(graph, plan, tensors, materialize(graph, plan.core, tensors))


def path_of(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

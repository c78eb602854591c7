"""What quantizing one site costs the network, all others being float, for each way to do it.

The cost is the mean divergence ``KL(p || q)`` of the network's main output from the float model's,
which needs no label. Its classes are the last axis, of maps ``[n, classes, h, w]`` the second; an
output without classes, such as one number a sample, costs its relative squared error.

By the completeness of path attribution (integrated gradients, arXiv 1703.01365) the divergence is
what the gradient, integrated from the float weight to the quantized one, adds up to: one forward
pass gives for a layer what the integral gives in eight passes forwards and backwards.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.capture.lifetimes import Lifetimes
from qcompile.capture.operations import mutates
from qcompile.capture.unit import Unit
from qcompile.methods.tuning import Tuning
from qcompile.passes.graph_inputs import graph_inputs
from qcompile.passes.padding import NO_PADDING, Padding
from qcompile.passes.site_context import SiteContext
from qcompile.passes.sweep_guard import check_finite
from qcompile.passes.sweep_node import operation
from qcompile.passes.sweep_site import quantize_site
from qcompile.passes.sweep_streams import Streams
from qcompile.passes.sweep_values import Value, batch_size, map_tensors, relative_error
from qcompile.passes.tail import Tail, tail_behind
from qcompile.policy.core import SitePlan
from qcompile.quant.losses.prediction import divergence

OUT_OF_RANGE = 1e6
"""Nats of a candidate whose output is not finite: more than any other has."""
OUTPUT = "the output"
Batch = Mapping[str, Tensor]
Progress = Callable[[str], None]
"""Told the key of the site that is about to be measured."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Plans of one site, and how each is rounded."""

    plans: Sequence[SitePlan]
    tuning: Tuning
    """Without the solver ``gradient``."""


@torch.no_grad()
def loss_increases(
    module: fx.GraphModule,
    units: Sequence[Unit],
    asked: Mapping[str, Candidates],
    batches: Sequence[Batch],
    *,
    seed: int,
    device: torch.device,
    progress: Progress,
    padding: Padding = NO_PADDING,
) -> dict[str, tuple[float, ...]]:
    """By node and plan, in nats a row of the output; ``asked`` is by node.

    0 where the output does not depend on the node; ``OUT_OF_RANGE`` where a candidate's is not
    finite. Raises ``CompileError`` (QR904) where the float output is not. One walk over the float
    model, and behind each asked node the rest of it once for each plan: nothing in front of a node
    is run again. The module is only read.
    """
    walk = _Walk(module, units, batches, device, seed, padding)
    found: dict[str, tuple[float, ...]] = {}
    for name in walk.order:
        candidates = asked.get(name)
        if candidates is not None:
            progress(candidates.plans[0].key)
            found[name] = walk.costs(name, candidates)
        walk.go_on(name)
    return found


def increase(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Of a network's outputs, batch by batch; see above what is taken of them."""
    pairs = [(a.double(), b.double()) for a, b in zip(found, wanted, strict=True)]
    axis = 1 if wanted[0].dim() > 3 else -1
    if wanted[0].dim() < 2 or wanted[0].shape[axis] < 2:
        cost = relative_error([a for a, _ in pairs], [b for _, b in pairs]) or 0.0
    else:
        each = torch.cat(
            [_divergence(a.movedim(axis, -1), b.movedim(axis, -1)).flatten() for a, b in pairs]
        )
        cost = float(each.mean())
    return max(cost, 0.0) if math.isfinite(cost) else OUT_OF_RANGE


def _divergence(found: Tensor, wanted: Tensor) -> Tensor:
    """Classes that both rule out with minus infinity are none."""
    out = (found == -torch.inf) & (wanted == -torch.inf)
    least = torch.finfo(torch.float32).min
    return divergence(found.masked_fill(out, least), wanted.masked_fill(out, least), 1.0)


class _Walk:
    """The float model, node by node over all batches; values are held to their last use."""

    def __init__(
        self,
        module: fx.GraphModule,
        units: Sequence[Unit],
        batches: Sequence[Batch],
        device: torch.device,
        seed: int,
        padding: Padding,
    ) -> None:
        self._module = module
        self._device = device
        self._seed = seed
        self._padding = padding
        self._nodes = {node.name: node for node in module.graph.nodes}
        self._lifetimes = Lifetimes(self._nodes.values(), units)
        self._streams = Streams()
        self._count = len(batches)
        self._sizes = [batch_size(batch) for batch in batches]
        self._wanted: list[Tensor] = []
        self.order = tuple(self._lifetimes.place)
        self._begin(batches)

    def _begin(self, batches: Sequence[Batch]) -> None:
        for name, values in graph_inputs(self._module, batches, self._device):
            self._streams.put(name, values, None)
        for name, node in self._nodes.items():
            if node.op.startswith("call_") and name not in self._lifetimes.place:
                self._streams.put(name, self._values(node, self._streams), None)

    def go_on(self, name: str) -> None:
        self._streams.put(name, self._values(self._nodes[name], self._streams), None)
        place = self._lifetimes.place[name]
        for over in self._lifetimes.over(self._streams.live, place, frozenset()):
            self._streams.free(over)

    def costs(self, name: str, candidates: Candidates) -> tuple[float, ...]:
        node = self._nodes[name]
        tail = tail_behind(self._module, name, self._streams, self._device)
        if tail is None:
            return (0.0,) * len(candidates.plans)
        plain = self._values(node, self._unspoilt(node))
        if not self._wanted:
            wanted = [tail(cast("Tensor", value), at) for at, value in enumerate(plain)]
            check_finite(wanted, self._sizes, unit=OUTPUT, stream="float", masks_allowed=True)
            self._wanted = self._own(tail, wanted)
        return tuple(
            self._cost(node, plan, candidates.tuning, plain, tail) if plan.tensors else 0.0
            for plan in candidates.plans
        )

    def _cost(
        self, node: fx.Node, plan: SitePlan, tuning: Tuning, plain: Sequence[Value], tail: Tail
    ) -> float:
        context = SiteContext(
            module=self._module,
            device=self._device,
            streams=self._unspoilt(node),
            fitted=self._count,
            tuning=tuning,
            generator=torch.Generator(self._device).manual_seed(self._seed),
            padding=self._padding,
        )
        fitted = plain if tuning.uses_moments and plan.has_weight else ()
        result = quantize_site(context, node, plan, {}, fitted)
        found = [tail(cast("Tensor", result.value(at)), at) for at in range(self._count)]
        return increase(self._own(tail, found), self._wanted)

    def _own(self, tail: Tail, outputs: Sequence[Tensor]) -> list[Tensor]:
        kept = self._padding.kept
        return [kept(value, tail.end, at) for at, value in enumerate(outputs)]

    def _values(self, node: fx.Node, streams: Streams) -> list[Value]:
        run = operation(self._module, node, self._device, {})
        read = streams.float_values
        return [run(lambda _, used, b=b: read(used.name)[b]) for b in range(self._count)]

    def _unspoilt(self, node: fx.Node) -> Streams:
        """What ``node`` may be tried on: copies of what it reads, if it would change that."""
        if not mutates(node, self._module):
            return self._streams
        read = {used.name for used in node.all_input_nodes if used.op != "get_attr"}
        streams = Streams()
        for name in self._streams.live:
            values = self._streams.float_values(name)
            if name in read:
                values = [map_tensors(value, Tensor.clone) for value in values]
            streams.put(name, values, None)
        return streams

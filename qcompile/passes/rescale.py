"""Move factors of channels between layers, as a plan lists it; the function stays as it is.

The values are looked at once, in the float model as it was given: a factor changes none of them
but its own. Transforms follow one another in the order of the plan, each on what those before it
left; those of one name and settings that repeat (``iterations``) go over all their places again.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import torch
from torch import Tensor, fx, nn

from qcompile.analysis.exchanges import Exchange, Part, exchanges
from qcompile.capture.copying import own_graph, replace_leaf
from qcompile.capture.leaves import build_leaf, constructor_arguments
from qcompile.compat.heap import give_back_freed
from qcompile.passes.norm_statistics import scale_statistics
from qcompile.passes.padding import NO_PADDING, Padding
from qcompile.passes.sweep_values import map_tensors, relative_error, tensors_in
from qcompile.policy.core import SitePlan, TensorPlan, TransformPlan
from qcompile.quant.rescalings.channels import Channels, Rescaled, Situation, Weight
from qcompile.quant.rescalings.registry import RESCALINGS, rescaling
from qcompile.quant.rescalings.tally import Tally

Batch = Mapping[str, Tensor]
NAMES = frozenset(row.name for row in RESCALINGS)


@dataclass(frozen=True, slots=True)
class Moved:
    """What one transform did with one value."""

    name: str
    value: str
    least: float
    largest: float
    """Of the factors by which the value's channels were divided."""


@dataclass(frozen=True, slots=True, eq=False)
class RescaledModel:
    module: fx.GraphModule
    moved: tuple[Moved, ...]
    difference: float
    """Of the outputs on the first batch: root of ``sum |new - old|^2 / sum |old|^2``; where none
    of them is a float, the share of unequal elements."""
    resolution: float
    """Of the coarsest number type among the parameters that changed."""


@torch.no_grad()
def rescaled(
    module: fx.GraphModule,
    transforms: Sequence[TransformPlan],
    sites: Mapping[str, SitePlan],
    batches: Sequence[Batch],
    device: torch.device,
    padding: Padding = NO_PADDING,
) -> RescaledModel | None:
    """``module`` with its parameters replaced; it stays as it was. ``None`` if nothing is asked.

    ``sites`` are by node name. The factors are found on the CPU.
    """
    asked = [item for item in transforms if item.name in NAMES]
    if not asked:
        return None
    places = {item.value: item for item in exchanges(module)}
    there = module if device.type == "cpu" else deepcopy(module).to(device)
    seen = _figures(there, [places[str(item.value)] for item in asked], batches, device, padding)
    del there
    work = _Work(module, sites, seen)
    moved: list[Moved] = []
    for _, alike in groupby(asked, key=lambda item: (item.name, item.settings)):
        group = list(alike)
        settings = {one.name: float(one.value) for one in group[0].settings}
        for _ in range(int(settings.get("iterations", 1))):
            for item in group:
                moved.append(work.move(item.name, settings, places[str(item.value)]))
    result = _with_parameters(module, work.parameters)
    for node in result.graph.nodes:
        if node.name in work.factors:
            scale_statistics(node, work.factors[node.name])
    types = {module.get_parameter(path).dtype for path in work.parameters}
    return judged(result, module, tuple(moved), types, batches[0])


def judged(
    result: fx.GraphModule,
    module: fx.GraphModule,
    moved: tuple[Moved, ...],
    types: Collection[torch.dtype],
    batch: Batch,
) -> RescaledModel:
    """``result`` beside ``module``, of which it was made; ``types`` of what has new values."""
    difference = _difference(_outputs(result, batch), _outputs(module, batch))
    resolution = max(torch.finfo(dtype).eps for dtype in types)
    return RescaledModel(result, moved, difference, resolution)


class _Work:
    """Parameters as they are so far, in float64."""

    def __init__(
        self, module: fx.GraphModule, sites: Mapping[str, SitePlan], seen: dict[str, Channels]
    ) -> None:
        self.parameters: dict[str, Tensor] = {}
        self.factors: dict[str, Tensor] = {}
        """By the name of the node whose channels were divided by them, in all."""
        self._module = module
        self._sites = sites
        self._seen = seen

    def move(self, name: str, settings: Mapping[str, float], place: Exchange) -> Moved:
        change = rescaling(name).of(self._situation(place), settings)
        self._apply(place, change)
        self._seen[place.value] = self._seen[place.value].after(change)
        return Moved(name, place.value, float(change.scale.min()), float(change.scale.max()))

    def _situation(self, place: Exchange) -> Situation:
        made = None
        if place.kind == "layer":
            weight = place.divided[0]
            made = Weight(self._of(weight.path), weight.axis, None, 0).peak
        readers = tuple(self._weight(reader.node, reader.weight) for reader in place.readers)
        return Situation(self._seen[place.value], made, readers, place.takes_shift)

    def _weight(self, node: str, part: Part) -> Weight:
        plan = self._plan_of(node)
        values = self._of(part.path)
        if plan is None:
            return Weight(values, part.axis, None, 0)
        return Weight(values, part.axis, plan.spec, plan.output_axis)

    def _plan_of(self, node: str) -> TensorPlan | None:
        site = self._sites.get(node)
        tensors = () if site is None else site.tensors
        return next((tensor for tensor in tensors if tensor.slot == "weight"), None)

    def _apply(self, place: Exchange, change: Rescaled) -> None:
        before = self.factors.get(place.maker)
        self.factors[place.maker] = change.scale if before is None else before * change.scale
        for part in place.divided:
            self.parameters[part.path] = self._along(part, 1 / change.scale)
        if change.shift is not None and place.offset is not None:
            self.parameters[place.offset] = self._of(place.offset) - change.shift
        for reader in place.readers:
            weight = self._along(reader.weight, change.scale)
            self.parameters[reader.weight.path] = weight
            if change.shift is not None and reader.bias is not None:
                taken = weight.movedim(reader.weight.axis, -1) @ change.shift
                self.parameters[reader.bias] = self._of(reader.bias) + taken

    def _along(self, part: Part, factors: Tensor) -> Tensor:
        return Weight(self._of(part.path), part.axis, None, 0).scaled(factors)

    def _of(self, path: str) -> Tensor:
        known = self.parameters.get(path)
        return self._module.get_parameter(path).detach().double() if known is None else known


def _figures(
    module: fx.GraphModule,
    places: Sequence[Exchange],
    batches: Sequence[Batch],
    device: torch.device,
    padding: Padding,
) -> dict[str, Channels]:
    axes = {place.value: place.axis for place in places}
    tallies = {place.value: Tally(len(batches), place.channels) for place in places}

    def see(name: str, value: Tensor) -> None:
        tallies[name].add(value.cpu(), axes[name])

    watch(module, axes.keys(), batches, device, see, padding)
    return {name: tally.channels() for name, tally in tallies.items()}


def watch(
    module: fx.GraphModule,
    names: Collection[str],
    batches: Sequence[Batch],
    device: torch.device,
    see: Callable[[str, Tensor], None],
    padding: Padding,
) -> None:
    """Run ``module``, which is on ``device``; ``see`` is given the values of some nodes."""

    class Watch(fx.Interpreter):
        batch = 0

        def run_node(self, n: fx.Node) -> object:
            value = cast("object", super().run_node(n))
            if n.name in names:
                see(n.name, padding.kept(cast("Tensor", value), n.name, self.batch))
            return value

    for number, batch in enumerate(batches):
        arguments = map_tensors(tuple(_arguments(module, batch)), lambda t: t.to(device))
        interpreter = Watch(module)
        interpreter.batch = number
        interpreter.run(*cast("tuple[object, ...]", arguments))
        give_back_freed()


def _outputs(module: fx.GraphModule, batch: Batch) -> list[Tensor]:
    return list(tensors_in(cast("object", module(*_arguments(module, batch)))))


def _difference(new: list[Tensor], old: list[Tensor]) -> float:
    """Infinities that both have in the same places are left out, as masks are made of them."""
    pairs = list(zip(new, old, strict=True))
    floats = [(a, b) for a, b in pairs if b.is_floating_point()]
    if not floats:
        unequal = sum(int((a != b).sum()) for a, b in pairs)
        return unequal / max(sum(b.numel() for _, b in pairs), 1)
    same = [(a == b) & b.isinf() for a, b in floats]
    found, wanted = (
        [pair[place].masked_fill(mask, 0) for pair, mask in zip(floats, same, strict=True)]
        for place in (0, 1)
    )
    error = relative_error(found, wanted)
    if error is None:  # all that is wanted is zero
        return 0.0 if not any(bool(tensor.any()) for tensor in found) else float("inf")
    return error**0.5


def _arguments(module: fx.GraphModule, batch: Batch) -> Iterator[object]:
    """Copies: a graph may write to its inputs."""
    for node in module.graph.find_nodes(op="placeholder"):
        missing = node.args[0] if node.args else None
        yield batch[node.name].clone() if node.name in batch else missing


def _with_parameters(module: fx.GraphModule, parameters: Mapping[str, Tensor]) -> fx.GraphModule:
    """A copy of ``module`` in which these parameters have these values, in their own types."""
    result = own_graph(module)
    leaves = {str(node.target) for node in module.graph.find_nodes(op="call_module")}
    for path in sorted({path.rpartition(".")[0] for path in parameters} & leaves):
        replace_leaf(result, path, _copied(result.get_submodule(path)))
    for path, values in parameters.items():
        owner, _, name = path.rpartition(".")
        old = module.get_parameter(path)
        new = nn.Parameter(values.to(old.dtype), requires_grad=old.requires_grad)
        setattr(result.get_submodule(owner), name, new)
    return result


def _copied(leaf: nn.Module) -> nn.Module:
    """Another module with the same tensors."""
    result = build_leaf(type(leaf), constructor_arguments(leaf)).train(leaf.training)
    tensors = (*leaf.named_parameters(recurse=False), *leaf.named_buffers(recurse=False))
    for name, tensor in tensors:
        setattr(result, name, tensor)
    return result

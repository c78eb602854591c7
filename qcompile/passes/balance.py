"""Give the channels in front of a rotation the mean zero, and the spread that suits their readers.

Behind a rotation all channels of a value, and all columns of a weight, have about one spread, and
one step for all of them. For a channel with the spread ``s`` that meets columns of the norm ``w``
the steps' errors add up to ``sum (g s)^2 * sum (w / g)^2``, least at ``g^2 = w / s`` (Cauchy and
Schwarz), for errors of the inputs and of the weights alike. A mean takes up range and tells
nothing: it is taken out, and what it gave goes into the bias (Outlier Suppression+, 2304.09145).
Scales in front of a rotation: after OSTQuant (2501.13987).
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx, nn

from qcompile.capture.balance import ChannelBalance
from qcompile.capture.copying import own_graph, replace_leaf, with_weight
from qcompile.capture.rotation import BlockRotation, rotated
from qcompile.compat.submodules import module_at
from qcompile.passes.padding import NO_PADDING, Padding
from qcompile.passes.rescale import Moved, RescaledModel, judged, watch
from qcompile.policy.rotation import LOOKED_AT, ROTATE

Batch = Mapping[str, Tensor]
LEAST = 1e-3
"""Spreads and norms count as this share of the largest one at least: a dead channel has none."""


@dataclass(frozen=True, slots=True)
class Place:
    """A balance, the rotation behind it, and the linear layers that read that; paths."""

    node: str
    balance: str
    block: int
    readers: tuple[str, ...]


def balances(module: fx.GraphModule) -> tuple[Place, ...]:
    """Of a graph, in its order."""
    found: list[Place] = []
    for node in module.graph.find_nodes(op="call_module"):
        if isinstance(module_at(module, str(node.target)), ChannelBalance):
            (turned,) = node.users
            block = cast("BlockRotation", module_at(module, str(turned.target))).block
            readers = tuple(str(user.target) for user in turned.users)
            found.append(Place(node.name, str(node.target), block, readers))
    return tuple(found)


@torch.no_grad()
def balanced(
    module: fx.GraphModule,
    shifting: frozenset[str],
    batches: Sequence[Batch],
    device: torch.device,
    padding: Padding = NO_PADDING,
) -> RescaledModel | None:
    """``module`` with its balances set and its layers changed with them; it stays as it was.

    ``shifting`` are paths of biases that may be set anew: a value whose readers have none keeps its
    mean. ``None`` where the graph has no balance.
    """
    places = balances(module)
    if not places:
        return None
    seen = _seen(module, places, batches[:LOOKED_AT], device, padding)
    result = own_graph(module)
    moved: list[Moved] = []
    for place in places:
        gain = _balance(result, place, seen[place.node], shifting)
        moved.append(Moved(ROTATE, place.node, float(gain.min()), float(gain.max())))
    return judged(result, module, tuple(moved), _types(module, places), batches[0])


def _balance(
    module: fx.GraphModule, place: Place, seen: "_Channels", shifting: frozenset[str]
) -> Tensor:
    """Set one balance and its readers in ``module``; the gain."""
    layers = {path: _layer(module, path) for path in place.readers}
    plain = {path: rotated(one.weight.detach().cpu(), place.block) for path, one in layers.items()}
    norm = sum(weight.square().sum(0) for weight in plain.values())
    gain = _gain(cast("Tensor", norm).sqrt(), seen.spread)
    moves = all(f"{path}.bias" in shifting for path in layers)
    shift = seen.mean if moves else torch.zeros_like(seen.mean)
    old = cast("ChannelBalance", module_at(module, place.balance))
    leaf = ChannelBalance(len(gain)).to(old.gain)
    leaf.shift.copy_(shift)
    leaf.gain.copy_(gain)
    replace_leaf(module, place.balance, leaf.eval())
    # what is stored, rounded to the model's type, is what the layers make good
    shift, gain = leaf.shift.double().cpu(), leaf.gain.double().cpu()
    for path, layer in layers.items():
        replace_leaf(module, path, _changed(layer, plain[path], shift, gain, place.block))
    return gain


def _changed(layer: nn.Linear, plain: Tensor, shift: Tensor, gain: Tensor, block: int) -> nn.Linear:
    """A copy for inputs that are shifted, scaled and rotated; ``plain`` is for none of these."""
    found = with_weight(layer, rotated(plain / gain, block))
    if cast("Tensor | None", layer.bias) is not None and bool(shift.any()):
        bias = layer.bias.detach().double() + (plain @ shift).to(layer.bias.device)
        found.bias = nn.Parameter(bias.to(layer.bias.dtype), requires_grad=layer.bias.requires_grad)
    return found


def _gain(norm: Tensor, spread: Tensor) -> Tensor:
    """Of geometric mean 1; channels are alike where nothing is known of them."""
    if not bool(norm.max() > 0) or not bool(spread.max() > 0):
        return torch.ones_like(norm)
    ratio = norm.clamp(min=LEAST * float(norm.max())) / spread.clamp(
        min=LEAST * float(spread.max())
    )
    log = ratio.log() / 2
    return (log - log.mean()).exp()


@dataclass(frozen=True, slots=True, eq=False)
class _Channels:
    """Of one value, in float64 on the CPU."""

    mean: Tensor
    spread: Tensor
    """Root mean square around the mean."""


def _seen(
    module: fx.GraphModule,
    places: Sequence[Place],
    batches: Sequence[Batch],
    device: torch.device,
    padding: Padding,
) -> dict[str, _Channels]:
    """What arrives at each balance in the float model."""
    sums = {place.node: _Sums(_features(module, place)) for place in places}
    there = module if device.type == "cpu" else deepcopy(module).to(device)

    def see(name: str, value: Tensor) -> None:  # the balance is the identity yet
        sums[name].add(value)

    watch(there, sums.keys(), batches, device, see, padding)
    return {name: one.channels() for name, one in sums.items()}


class _Sums:
    """Of one value; all that lasts is allocated at the start, as that of ``Tally``."""

    def __init__(self, features: int) -> None:
        self._first, self._second = torch.zeros(2, features, dtype=torch.float64).unbind()
        self._rows = 0

    def add(self, value: Tensor) -> None:
        rows = value.reshape(-1, value.shape[-1]).double()
        self._first += rows.sum(0).cpu()
        self._second += rows.square().sum(0).cpu()
        self._rows += len(rows)

    def channels(self) -> _Channels:
        mean = self._first / self._rows
        return _Channels(mean, (self._second / self._rows - mean.square()).clamp(min=0).sqrt())


def _features(module: fx.GraphModule, place: Place) -> int:
    return cast("ChannelBalance", module_at(module, place.balance)).features


def _layer(module: fx.GraphModule, path: str) -> nn.Linear:
    return cast("nn.Linear", module_at(module, path))


def _types(module: fx.GraphModule, places: Sequence[Place]) -> frozenset[torch.dtype]:
    return frozenset(_layer(module, path).weight.dtype for one in places for path in one.readers)

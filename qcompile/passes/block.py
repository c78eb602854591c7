"""A stretch of the graph with its cached inputs and targets: what a gradient solver works on.

Nothing before the stretch is run again: its inputs are the cached values of both streams, its
targets the cached outputs of the float model.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.capture.operations import mutates
from qcompile.passes.padding import NO_PADDING, Padding
from qcompile.passes.sweep_node import attribute, operation
from qcompile.passes.sweep_values import Value, map_tensors
from qcompile.passes.tail import Tail
from qcompile.policy.core import TensorPlan
from qcompile.quant.activation_quantizer import ActivationQuantizer
from qcompile.quant.stored_weight import StoredWeight

Quantizer = Callable[[Tensor], Tensor]
NOTHING_BESIDE: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """A weight on its grid, and the float parameters that were set along with it."""

    code: StoredWeight
    beside: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """By path: the layer's bias, where it is refitted."""

    def tensors(self, storage: str) -> dict[str, Tensor]:
        """Artifact tensors by name."""
        return {**self.code.tensors(storage), **self.beside}


@dataclass(frozen=True, slots=True, eq=False)
class SolvedWeight:
    """A weight of the stretch that no earlier stretch has decided."""

    path: str
    storage: str
    plan: TensorPlan
    weight: Tensor
    """As the model holds it."""
    nearest: Rounded
    start: Rounded
    """What the layer's own solvers found; the same as ``nearest`` for ``rtn``."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockSite:
    """One planned site of the stretch."""

    key: str
    node: str
    slots: Mapping[int, str]
    """Argument position (see ``occurrences``) to the slot that quantizes it."""
    quantizers: Mapping[str, ActivationQuantizer]
    """By slot, as the range search left them."""
    solved: SolvedWeight | None
    reused: Mapping[str, tuple[str, Tensor]]
    """By parameter path: storage and value of weights that were decided before, on the grid."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One way to quantize the stretch: weights by storage, quantizers by (node, slot)."""

    weights: Mapping[str, Tensor]
    beside: Mapping[str, Tensor]
    """Float parameters by path, where they are not the model's: biases of layers, and norms."""
    quantizers: Mapping[tuple[str, str], Quantizer]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """``inputs[name][batch]`` of both streams; ``targets[batch]`` is the float main output."""

    module: fx.GraphModule
    device: torch.device
    nodes: tuple[fx.Node, ...]
    output: str
    sites: Mapping[str, BlockSite]
    """By node name."""
    quantized: Mapping[str, Sequence[Value]]
    plain: Mapping[str, Sequence[Value]]
    targets: Sequence[Tensor]
    tail: Tail | None = None
    """The float network behind; ``None`` where no loss looks at it, or nothing reaches it."""
    norms: Mapping[str, Mapping[str, Tensor]] = field(
        default_factory=dict[str, Mapping[str, Tensor]]
    )
    """Float parameters of norms that may be learned, as the model has them: by node and path."""
    padding: Padding = NO_PADDING

    @property
    def solved(self) -> tuple[SolvedWeight, ...]:
        """Each weight once, in the order of the walk."""
        found = {
            site.solved.storage: site.solved
            for site in self.sites.values()
            if site.solved is not None
        }
        return tuple(found.values())

    def run(self, choice: Choice, inputs: Mapping[str, Value]) -> Tensor:
        """The main output for the given values of the inputs."""
        return cast("Tensor", self.values(choice, inputs)[self.output])

    def values(self, choice: Choice, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Of the inputs and of every node."""
        return {**inputs, **dict(self.walk(choice, inputs))}

    def walk(self, choice: Choice, inputs: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
        """Node by node, each value before the next node can change it in place."""
        values: dict[str, Value] = dict(inputs)
        for node in self.nodes:
            values[node.name] = self._value(node, choice, values)
            yield node.name, values[node.name]

    def batch(self, number: int) -> dict[str, Value]:
        """Inputs behind the quantized prefix; copies where the stretch works in place."""
        return self.own({name: values[number] for name, values in self.quantized.items()})

    def own(self, taken: dict[str, Value]) -> dict[str, Value]:
        """Values that the stretch may spoil: copies if it works in place."""
        if not any(mutates(node, self.module) for node in self.nodes):
            return taken
        return {name: map_tensors(value, Tensor.clone) for name, value in taken.items()}

    def _value(self, node: fx.Node, choice: Choice, values: Mapping[str, Value]) -> Value:
        site = self.sites.get(node.name)
        own = self.norms.get(node.name, {})
        weights = {path: choice.beside[path] for path in own if path in choice.beside}
        if site is not None:
            for path, (storage, decided) in site.reused.items():
                # a weight that this very stretch decides is the same at each of its calls
                weights[path] = choice.weights.get(storage, decided)
            if site.solved is not None:
                weights[site.solved.path] = choice.weights[site.solved.storage]
                own = site.solved.start.beside
                weights |= {path: choice.beside[path] for path in own if path in choice.beside}

        def lookup(position: int, used: fx.Node) -> Value:
            value = values[used.name]
            if site is None or position not in site.slots:
                return value
            quantizer = choice.quantizers[node.name, site.slots[position]]
            return quantizer(cast("Tensor", value))

        return operation(self.module, node, self.device, weights)(lookup)


def hard_choice(
    block: Block,
    rounded: Mapping[str, Rounded],
    quantizers: Mapping[tuple[str, str], ActivationQuantizer],
    beside: Mapping[str, Tensor] = NOTHING_BESIDE,
) -> Choice:
    """Weights by storage, quantizers by node and slot, as they will be on disk.

    ``beside`` are parameters of norms, by path, where they are not the model's.
    """
    weights = {w.storage: rounded[w.storage].code.dequantize(w.weight.dtype) for w in block.solved}
    biases = set_beside(rounded[w.storage] for w in block.solved)
    return Choice(weights, {**biases, **beside}, quantizers)


def first_batches(block: Block, count: int) -> Block:
    """The same stretch with fewer batches."""
    return replace(
        block,
        quantized={name: values[:count] for name, values in block.quantized.items()},
        plain={name: values[:count] for name, values in block.plain.items()},
        targets=block.targets[:count],
    )


def float_choice(block: Block) -> Choice:
    """The stretch as the model has it: no weight and no activation is quantized."""
    weights = {w.storage: w.weight for w in block.solved}
    quantizers: dict[tuple[str, str], Quantizer] = {}
    for site in block.sites.values():
        for path, (storage, _) in site.reused.items():
            own = cast("Tensor", attribute(block.module, path))
            weights.setdefault(storage, own.detach().to(block.device))
        quantizers |= {(site.node, slot): _unchanged for slot in site.quantizers}
    return Choice(weights, {}, quantizers)


def _unchanged(x: Tensor) -> Tensor:
    return x


def set_beside(rounded: Iterable[Rounded]) -> dict[str, Tensor]:
    return {path: value for item in rounded for path, value in item.beside.items()}

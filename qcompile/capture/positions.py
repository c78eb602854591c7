"""Which axis of a value seems to count samples, and which one their positions: tokens of a text.

Sizes tell it: those of the inputs that have both, in whatever order a value has them. A length that
the graph holds for any number is a symbol, which nothing else is called; one that is fixed is a
number, and may be that of something else, too. Sizes say nothing of the order along an axis, so
that what is said here has to be looked at with values, see ``passes.padding_probe``.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import fx

from qcompile.capture.node_meta import facts

Size = int | str


@dataclass(frozen=True, slots=True)
class Layout:
    samples: int
    positions: int
    """The same axis, where a value has one row for each position of each sample."""
    positions_first: bool = False
    """In that axis: all samples of a position stand side by side."""
    looked_at: int | None = None
    """A second axis of positions: scores of attention have one for who looks, one for at whom."""
    repeats: int = 1
    """Of each sample so many stand side by side, such as one for each head."""

    @property
    def is_merged(self) -> bool:
        return self.samples == self.positions

    @property
    def is_positions_first(self) -> bool:
        return self.positions_first if self.is_merged else self.positions < self.samples


@dataclass(frozen=True, slots=True)
class _Sizes:
    samples: frozenset[Size]
    positions: frozenset[Size]

    def is_both(self, size: Size) -> bool:
        """``batch * length``, written in either order."""
        if isinstance(size, int):
            pairs = ((s, t) for s in self.samples for t in self.positions if s != 1 and t != 1)
            return any(
                isinstance(s, int) and isinstance(t, int) and s * t == size for s, t in pairs
            )
        factors = sorted(size.split("*"))
        return any(
            sorted((str(s), str(t))) == factors for s in self.samples for t in self.positions
        )

    def repeats(self, size: Size) -> int:
        """``k`` of ``k*batch``; 1 of anything else."""
        if not isinstance(size, str):
            return 1
        found = re.fullmatch(r"(\d+)\*(\w+)", size)
        return int(found[1]) if found and found[2] in self.samples else 1


def layouts(
    module: fx.GraphModule, inputs: Collection[str], free: Mapping[str, Sequence[int]]
) -> dict[str, Layout]:
    """By the name of a node. ``inputs`` are placeholders ``[samples, positions, ...]``.

    ``free`` are axes of inputs, by their names, whose sizes the graph leaves open.
    """
    nodes = [node for node in module.graph.nodes if node.name in inputs]
    sizes = _Sizes(*(frozenset(_sizes(nodes, axis, free)) for axis in (0, 1)))
    known: dict[str, Layout] = {}
    for node in module.graph.nodes:
        shape = facts(node).shape
        if shape is None or node.op == "get_attr":
            continue
        before = (known[used.name] for used in node.all_input_nodes if used.name in known)
        layout = _layout(shape, sizes, next(before, None))
        if layout is not None:
            known[node.name] = layout
    return known


def _sizes(
    nodes: Sequence[fx.Node], axis: int, free: Mapping[str, Sequence[int]]
) -> Iterator[Size]:
    """What the inputs' axis is called; its number, too, where the graph holds for that alone."""
    for node in nodes:
        known = facts(node)
        if known.shape is None or known.example is None or len(known.shape) < 2:
            continue
        yield known.shape[axis]
        if axis not in free.get(str(node.target), ()):
            yield known.example[axis]


def _layout(shape: Sequence[Size], sizes: _Sizes, before: Layout | None) -> Layout | None:
    """``before`` is that of a value that it is made of."""
    of_positions = [axis for axis, size in enumerate(shape) if size in sizes.positions]
    of_samples = [axis for axis, size in enumerate(shape) if size in sizes.samples]
    if len(of_samples) > 1 and of_samples[0] == 0 and shape[0] == 1:
        of_samples = [0]  # one sample: all such axes are alike
    merged = [axis for axis, size in enumerate(shape) if sizes.is_both(size)]
    if len(merged) == 1 and not of_samples and not of_positions:
        return Layout(merged[0], merged[0], before is not None and before.is_positions_first)
    repeated = [(axis, sizes.repeats(size)) for axis, size in enumerate(shape)]
    of_repeated = [(axis, count) for axis, count in repeated if count > 1]
    if not of_samples and len(of_repeated) == 1:
        (axis, count), *_ = of_repeated
        found = _apart(shape, axis, of_positions)
        return None if found is None else replace(found, repeats=count)
    return _apart(shape, of_samples[0], of_positions) if len(of_samples) == 1 else None


def _apart(shape: Sequence[Size], samples: int, positions: Sequence[int]) -> Layout | None:
    """Of scores of attention, which have positions twice, the first axis is of who looks."""
    others = [axis for axis in positions if axis != samples]
    are_symbols = all(isinstance(shape[axis], str) for axis in others)
    match others:
        case [axis]:
            return Layout(samples, axis)
        case [axis, second] if are_symbols:
            return Layout(samples, axis, looked_at=second)
        case _:
            return None

"""The sizes that values have in a run: those of the capture, with its free sizes set."""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

from torch import fx

from qcompile.capture.node_meta import facts

ITEM_BYTES: Mapping[str, int] = MappingProxyType(
    {"float64": 8, "int64": 8, "float16": 2, "bfloat16": 2, "bool": 1, "uint8": 1, "int8": 1}
)
"""By type; others take 4."""

_ARITHMETIC: Mapping[type[ast.operator], Callable[[int, int], int]] = MappingProxyType(
    {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.FloorDiv: operator.floordiv,
        ast.Mod: operator.mod,
    }
)


@dataclass(frozen=True, slots=True)
class ActualSizes:
    """``symbols``: the free sizes of one batch, by the name that the capture gave them."""

    symbols: Mapping[str, int]

    @classmethod
    def of(cls, graph: fx.Graph, shapes: Mapping[str, Sequence[int]]) -> "ActualSizes":
        """``shapes`` are those of a batch, by the name of the placeholder."""
        symbols: dict[str, int] = {}
        for node in graph.find_nodes(op="placeholder"):
            known = facts(node).shape or ()
            for size, actual in zip(known, shapes.get(node.name, ()), strict=False):
                if isinstance(size, str) and size.isidentifier():
                    symbols.setdefault(size, actual)
        return cls(symbols)

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """Of a tensor; ``()`` for what is not one."""
        known = facts(node)
        if known.shape is None or known.example is None:
            return ()
        return tuple(
            self._size(size, example)
            for size, example in zip(known.shape, known.example, strict=True)
        )

    def elements(self, node: fx.Node) -> int:
        return prod(self.shape(node)) if facts(node).is_tensor else 0

    def nbytes(self, node: fx.Node) -> int:
        return self.elements(node) * ITEM_BYTES.get(facts(node).dtype or "", 4)

    def _size(self, size: int | str, example: int) -> int:
        """What cannot be worked out keeps the size that it had in the example."""
        if isinstance(size, int):
            return size
        try:
            return self._value(ast.parse(size, mode="eval").body)
        except (KeyError, SyntaxError, ZeroDivisionError):
            return example

    def _value(self, term: ast.expr) -> int:
        match term:
            case ast.Constant(value=int(value)):
                return value
            case ast.Name(id=name):
                return self.symbols[name]
            case ast.BinOp(left, op, right):
                return _ARITHMETIC[type(op)](self._value(left), self._value(right))
            case _:
                raise KeyError(type(term))

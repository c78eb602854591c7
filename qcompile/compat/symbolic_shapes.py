"""Fake tensors whose chosen dimensions are symbols: a model runs on them without computing."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import cast

import sympy
import torch
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import (
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext
from torch.utils._sympy.interp import sympy_interp
from torch.utils._sympy.reference import PythonReferenceAnalysis

from qcompile.compat.size_decisions import SizeDecision, WatchedShapes

SMALLEST_EXAMPLE = 2
"""Sizes 0 and 1 are special to broadcasting; an example of 1 would be compiled in as 1."""

SymbolicNumber = torch.SymInt | torch.SymFloat | torch.SymBool


@dataclass(frozen=True, slots=True)
class Dimension:
    """Dimension ``axis`` of the input ``name``."""

    name: str
    axis: int

    def __str__(self) -> str:
        return f"{self.name}.shape[{self.axis}]"


class SymbolicShapes:
    """One set of symbols, shared by all inputs of one capture."""

    def __init__(self, device: torch.device | None = None) -> None:
        """``device``: where the inputs are to be, if not where the examples are."""
        self._device = device
        self._shapes = WatchedShapes()
        self._mode = FakeTensorMode(shape_env=self._shapes, allow_non_fake_inputs=True)
        self._origins: dict[sympy.Expr, Dimension] = {}
        self._inputs: dict[Dimension, sympy.Expr] = {}
        """Every axis that was declared free."""
        self._lowered: dict[sympy.Expr, fx.Node] = {}

    @contextmanager
    def active(self, on_decision: Callable[[SizeDecision], None]) -> Generator[None]:
        """While active, every tensor that is made is fake; real parameters are accepted.

        ``on_decision`` hears of every decision that is taken on free sizes, torch's own included.

        The C++ kernels of some operations (``pad`` is one) read free sizes as plain numbers and so
        fix them; with the Python dispatcher their Python counterparts run.
        """

        def watch(question: sympy.Expr, answer: object, fixes: bool) -> None:
            names = {symbol: str(dimension) for symbol, dimension in self._origins.items()}
            on_decision(SizeDecision(question, answer, names, fixes))

        self._shapes.watch = watch
        try:
            with enable_python_dispatcher(), self._mode:
                yield
        finally:
            self._shapes.watch = None

    def fake(self, example: torch.Tensor, name: str, dynamic: tuple[int, ...]) -> torch.Tensor:
        """A fake tensor like ``example``, free in the axes ``dynamic``."""
        sizes = [
            max(size, SMALLEST_EXAMPLE) if axis in dynamic else size
            for axis, size in enumerate(example.shape)
        ]
        device = self._device or example.device
        if sizes != list(example.shape) or device != example.device:
            example = torch.empty(sizes, dtype=example.dtype, device=device)
        freedom = [
            DimDynamic.DYNAMIC if axis in dynamic else DimDynamic.STATIC
            for axis in range(example.dim())
        ]
        fake = self._mode.from_tensor(
            example,
            symbolic_context=StatelessSymbolicContext(dynamic_sizes=freedom),
        )
        for axis, size in enumerate(fake.shape):
            if axis in dynamic and isinstance(size, torch.SymInt):
                dimension = Dimension(name, axis)
                self._origins.setdefault(size.node.expr, dimension)
                self._inputs[dimension] = size.node.expr
        return fake

    def free(self) -> list[Dimension]:
        """Axes that nothing in the run has fixed to the example's size."""
        return [
            dimension
            for dimension, expression in self._inputs.items()
            if not cast("sympy.Expr", self._shapes.replace(expression)).is_number
        ]

    def problem(
        self, conditions: Iterable[SizeDecision], shapes: Mapping[str, Sequence[int]]
    ) -> str | None:
        """Why inputs of these shapes would be computed otherwise than the run was, if so."""
        sizes = {
            symbol: sympy.Integer(shapes[dimension.name][dimension.axis])
            for dimension, symbol in self._inputs.items()
            if dimension.name in shapes
        }
        for condition in conditions:
            found = condition.question.xreplace(sizes)
            if not found.free_symbols and found != condition.answer:
                return f"it holds for `{condition.text}`"
        return None

    def lower(
        self, number: SymbolicNumber, size_of: Callable[[Dimension], fx.Node]
    ) -> fx.Node | int | float | bool:
        """``number`` as arithmetic on the nodes that ``size_of`` makes; a plain number if fixed."""
        expression = cast("sympy.Expr", number.node.expr)
        if expression.is_number:
            return _plain(expression)
        if expression in self._lowered:
            return self._lowered[expression]
        proxies = {
            symbol: fx.Proxy(self._size(symbol, size_of))
            for symbol in cast("set[sympy.Symbol]", expression.free_symbols)
        }
        lowered = cast("fx.Proxy", sympy_interp(PythonReferenceAnalysis, proxies, expression))
        self._lowered[expression] = lowered.node
        return lowered.node

    def _size(self, symbol: sympy.Expr, size_of: Callable[[Dimension], fx.Node]) -> fx.Node:
        if symbol not in self._lowered:
            self._lowered[symbol] = size_of(self._origins[symbol])
        return self._lowered[symbol]


def with_values() -> AbstractContextManager[None]:
    """A stretch of a run on fake tensors in which real ones have their values."""
    return cast("AbstractContextManager[None]", unset_fake_temporarily())


def is_symbolic(value: object) -> bool:
    return isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool)


def is_fake(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, FakeTensor)


def example_size(size: int | torch.SymInt) -> int:
    """The number that ``size`` stands for in the example, without fixing the symbol to it."""
    if not isinstance(size, torch.SymInt):
        return size
    if size.node.hint is None:
        raise ValueError("the size of a tensor depends on the values of another")
    return int(cast("int", size.node.hint))


def _plain(expression: sympy.Expr) -> int | float | bool:
    if expression.is_integer:
        return int(expression)
    return float(expression)

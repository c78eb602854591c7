"""Hear of every question that Python code asks about symbolic sizes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import sympy
from sympy.logic.boolalg import BooleanAtom
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.printers import PythonPrinter
from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy

Symbols = Mapping[sympy.Expr, str]


@dataclass(frozen=True, slots=True)
class SizeDecision:
    """A condition or a number that depends on free sizes, and what it came to for the example."""

    question: sympy.Expr
    answer: object
    names: Symbols
    """How to call the symbols."""
    fixes_a_size: bool
    """The answer left a size with one value only."""

    @property
    def text(self) -> str:
        """What holds for the example: ``x.shape[0] > 3``."""
        if isinstance(self.answer, BooleanAtom):
            holds = self.question if self.answer else sympy.Not(self.question)
        else:
            holds = sympy.Eq(self.question, cast("sympy.Expr", self.answer), evaluate=False)
        names = {symbol: sympy.Symbol(name) for symbol, name in self.names.items()}
        return PythonPrinter().doprint(holds.xreplace(names))

    def is_settled_from(self, least: int) -> bool:
        """Whether the answer is the same for all sizes of at least ``least``."""
        sizes = cast("set[sympy.Symbol]", self.question.free_symbols)
        bounds = bound_sympy(self.question, {size: ValueRanges(least, int_oo) for size in sizes})
        return bounds.is_singleton()


class WatchedShapes(ShapeEnv):
    """Tells ``watch`` of each question whose answer is not yet known to hold for all sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.watch: Callable[[sympy.Expr, object, bool], None] | None = None
        self._is_asked = False

    def evaluate_expr(self, orig_expr: sympy.Basic, *args: Any, **kwargs: Any) -> sympy.Basic:  # noqa: ANN401 - passed on
        """The question and its answer; questions that torch asks to answer one are its own."""
        if self.watch is None or self._is_asked:
            return super().evaluate_expr(orig_expr, *args, **kwargs)
        self._is_asked = True
        try:
            question = cast("sympy.Expr", self.replace(orig_expr))
            answer = super().evaluate_expr(orig_expr, *args, **kwargs)
        finally:
            self._is_asked = False
        if question.free_symbols:
            fixed = any(self.replace(size).is_number for size in question.free_symbols)
            self.watch(question, answer, fixed)
        return answer

"""Values of tensors that a model takes out of torch, and with which it then decides something."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from qcompile.compat.symbolic_shapes import is_symbolic

VALUE_READERS = frozenset(
    {
        "item",
        "__bool__",
        "__int__",
        "__float__",
        "__index__",
        "__contains__",
        "__format__",
        "tolist",
        "is_nonzero",
        "equal",
        "allclose",
    }
)
"""Functions of tensors whose results are Python values."""

EXITS = frozenset({"numpy", "__array__", "__dlpack__"})
"""Functions of tensors after which other libraries compute, unseen."""


class ValueNeededError(Exception):
    """The model asks for a value where there are none; caught by ``trace``."""


@dataclass(frozen=True, slots=True)
class ValueRead:
    """The answer that a run on values got."""

    name: str
    value: object


class ValueReads:
    """The reads of one run; a run on tensors without values takes the answers of an earlier one."""

    def __init__(self, *, has_values: bool, answers: Sequence[ValueRead] = ()) -> None:
        self.made: list[ValueRead] = []
        self._has_values = has_values
        self._answers = answers

    def ask(self, name: str, read: Callable[[], object]) -> ValueRead:
        """What the model gets to see."""
        made = ValueRead(name, read()) if self._has_values else self._without_values(name, read)
        self.made.append(made)
        return made

    def _without_values(self, name: str, read: Callable[[], object]) -> ValueRead:
        """A tensor that was made of plain numbers has a value all the same."""
        try:
            value = read()
        except (RuntimeError, TypeError):  # the kinds that fake tensors raise
            value = None
        if value is not None and not _is_symbolic(value):
            return ValueRead(name, value)
        place = len(self.made)
        known = self._answers[place] if place < len(self._answers) else None
        if known is None or known.name != name:
            raise ValueNeededError(f"the value of a tensor decides, and is read by `{name}`")
        return known


def _is_symbolic(value: object) -> bool:
    if isinstance(value, list):
        return any(_is_symbolic(item) for item in cast("list[object]", value))
    return is_symbolic(value)

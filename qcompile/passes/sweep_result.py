"""What is kept of a value that nothing but the network's output reads.

The scores of a language model are as wide as its vocabulary: held for all batches in two streams
they would take far more memory than everything in front of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

from torch import Tensor

from qcompile.diagnostics.failure import CompileError
from qcompile.passes.padding import NO_PADDING, Padding
from qcompile.passes.sweep_guard import check_finite
from qcompile.passes.sweep_values import Distance, Value, floats_in


class ResultFigures:
    """Of one node, batch by batch: how far apart its streams are, and whether they are finite."""

    def __init__(
        self, unit: str, name: str, batch_sizes: Sequence[int], padding: Padding = NO_PADDING
    ) -> None:
        self.has_floats = False
        self._unit = unit
        self._sizes = batch_sizes
        self._name = name
        self._padding = padding
        self._distance = Distance()
        self._is_shared = True
        self._problems: dict[tuple[str, bool], CompileError] = {}

    @property
    def error(self) -> float | None:
        """As ``relative_error`` has it."""
        if self._is_shared:
            return 0.0 if self.has_floats else None
        return self._distance.relative

    def see(self, batch: int, plain: Value, quantized: Value) -> None:
        """``quantized`` is ``plain`` itself where the streams are one."""
        wanted = floats_in([plain])
        self.has_floats |= bool(wanted)
        if quantized is not plain:
            self._is_shared = False
            found = floats_in([quantized])
            self._distance.add(self._own(found, batch), self._own(wanted, batch))
            self._look(batch, "quantized", quantized)
        self._look(batch, "float", plain)

    def _own(self, values: list[Tensor], batch: int) -> list[Tensor]:
        return [self._padding.kept(value, self._name, batch) for value in values]

    def check(self, *, masks_allowed: bool) -> None:
        """Raise QR904 if a batch was not finite, in the float model first; see ``check_finite``."""
        for stream in ("float", "quantized"):
            problem = self._problems.get((stream, masks_allowed))
            if problem is not None:
                raise problem

    def _look(self, batch: int, stream: str, value: Value) -> None:
        """Whether this is a mask is known only when all nodes of the unit have been seen."""
        values: list[Value] = [None] * len(self._sizes)
        values[batch] = value
        for masks_allowed in (True, False):
            if (stream, masks_allowed) not in self._problems:
                try:
                    check_finite(
                        values,
                        self._sizes,
                        unit=self._unit,
                        stream=stream,
                        masks_allowed=masks_allowed,
                    )
                except CompileError as problem:
                    self._problems[stream, masks_allowed] = problem


@dataclass(frozen=True, slots=True)
class Recomputed(Sequence[Value]):
    """Values of a node by batch, made each time they are asked for."""

    make: Callable[[int], Value]
    batches: int

    def __len__(self) -> int:
        return self.batches

    @overload
    def __getitem__(self, index: int) -> Value: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Value]: ...
    def __getitem__(self, index: int | slice) -> Value:
        if isinstance(index, slice):
            return [self.make(batch) for batch in range(self.batches)[index]]
        return self.make(range(self.batches)[index])

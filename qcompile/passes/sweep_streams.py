"""The two cached streams of a sweep: each live node in the float model and behind quantization."""

from collections.abc import Iterable

from torch import Tensor

from qcompile.passes.padding import Padding
from qcompile.passes.sweep_values import Distance, Value, floats_in, map_tensors


class Streams:
    """One value a batch for each live node and stream.

    Invariants: a node that has a quantized list has a float list; a node without one is *shared*:
    its two streams are equal and stored once.
    """

    def __init__(self) -> None:
        self._float: dict[str, list[Value]] = {}
        self._quantized: dict[str, list[Value]] = {}

    @property
    def live(self) -> tuple[str, ...]:
        """Names of the nodes that are held, in the order in which they were put."""
        return tuple(self._float)

    def is_shared(self, name: str) -> bool:
        return name not in self._quantized

    def float_values(self, name: str) -> list[Value]:
        return self._float[name]

    def quantized_values(self, name: str) -> list[Value]:
        return self._quantized.get(name, self._float[name])

    def put(self, name: str, float_values: list[Value], quantized: list[Value] | None) -> None:
        """``quantized`` is ``None`` for a shared node."""
        self._float[name] = float_values
        if quantized is not None:
            self._quantized[name] = quantized

    def put_quantized(self, name: str, values: list[Value]) -> None:
        """Replace the quantized stream of a live node."""
        self._quantized[name] = values

    def error(self, name: str, padding: Padding) -> float | None:
        """``sum |q - f|^2 / sum |f|^2`` of a live node; ``None`` where it is undefined."""
        if self.is_shared(name):
            return 0.0 if floats_in(self._float[name]) else None
        distance = Distance()
        pairs = zip(self._quantized[name], self._float[name], strict=True)
        for batch, pair in enumerate(pairs):
            found, wanted = (
                [padding.kept(tensor, name, batch) for tensor in floats_in([value])]
                for value in pair
            )
            distance.add(found, wanted)
        return distance.relative

    def split(self, name: str) -> None:
        """Give a shared node a second copy, before an operation changes the two in place."""
        if self.is_shared(name):
            copies = [map_tensors(value, Tensor.clone) for value in self._float[name]]
            self._quantized[name] = copies

    def give_up(self, names: Iterable[str], batch: int) -> None:
        """Let go of one batch of values that are read for the last time; ``free`` comes later."""
        for name in names:
            self._float[name][batch] = None
            if name in self._quantized:
                self._quantized[name][batch] = None

    def free(self, name: str) -> None:
        self._float.pop(name, None)
        self._quantized.pop(name, None)

    def settle(self) -> None:
        """Make every tensor contiguous and the only view of its memory.

        Layout and alignment decide which kernel runs, and so the last bits of a result. What goes
        on from here and what goes on from disk must see the same.
        """
        seen: set[int] = set()

        def settled(tensor: Tensor) -> Tensor:
            kept = tensor.contiguous()
            storage = kept.untyped_storage()
            is_part = bool(kept.storage_offset()) or storage.nbytes() != kept.nbytes
            if is_part or storage.data_ptr() in seen:
                kept = kept.clone()
            seen.add(kept.untyped_storage().data_ptr())
            return kept

        for stream in (self._float, self._quantized):
            for name, values in stream.items():
                stream[name] = [map_tensors(value, settled) for value in values]

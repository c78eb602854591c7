"""Samples of token ids, and how long they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from qcompile.data.batches import Batch, map_tensors, named_tensors
from qcompile.data.source_kinds import DataSource


@dataclass(frozen=True, slots=True)
class CutSource:
    """Samples of another source, token ids and what stands beside each of them cut off."""

    source: DataSource
    length: int

    @property
    def labels(self) -> str | None:
        return self.source.labels

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, size: int) -> Iterator[Batch]:
        return (map_tensors(batch, self._cut) for batch in self.source.batches(size))

    def read(self, indices: Sequence[int]) -> Batch:
        return map_tensors(self.source.read(indices), self._cut)

    def _cut(self, tensor: Tensor) -> Tensor:
        return tensor[:, : self.length] if is_of_tokens(tensor) else tensor


def has_tokens(source: DataSource) -> bool:
    """Reads the first sample."""
    return any(is_of_tokens(tensor) for _, tensor in named_tensors(source.read([0])))


def is_of_tokens(tensor: Tensor) -> bool:
    """Ids, a mask or labels: whole numbers ``[samples, tokens]``."""
    return tensor.dim() == 2 and not tensor.is_floating_point()

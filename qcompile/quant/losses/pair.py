"""What a loss compares: one batch of what there is beside what is wanted."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Samples are along the first axis; float32."""

    found: Tensor
    wanted: Tensor
    sensitivity: Tensor | None = None
    """Of the network behind, by each element; as ``Sees`` of the loss says."""

    @property
    def difference(self) -> Tensor:
        return self.found - self.wanted

    @property
    def weighted(self) -> Tensor:
        """``|sensitivity| * |difference|``."""
        if self.sensitivity is None:
            raise ValueError("this loss weighs differences, and no weights are given")
        return self.sensitivity.abs() * self.difference.abs()

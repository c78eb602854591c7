"""A weight seen as the groups that share one scale."""

from dataclasses import dataclass
from math import prod

from torch import Tensor

from qcompile.policy.scheme import Granularity, PerGroup
from qcompile.policy.size import channel_axis, weight_scale_shape


@dataclass(frozen=True, slots=True)
class Grouping:
    """The view ``[outer, groups, size]`` of a weight: one scale for each ``[outer, groups]``.

    With ``axis`` moved to the front the weight is a matrix of rows. One tensor is ``[1, 1, n]``,
    one channel a row ``[out, 1, row]``, one group a piece of a row ``[out, row / g, g]``.
    """

    shape: tuple[int, ...]
    axis: int
    outer: int
    groups: int
    scale_shape: tuple[int, ...]
    """On disk."""

    @property
    def size(self) -> int:
        return prod(self.shape) // max(self.outer * self.groups, 1)

    def view(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.axis, 0).reshape(self.outer, self.groups, self.size)

    def restore(self, grouped: Tensor) -> Tensor:
        """The inverse of ``view``, contiguous."""
        rest = (n for axis, n in enumerate(self.shape) if axis != self.axis)
        moved = grouped.reshape(self.shape[self.axis], *rest)
        return moved.movedim(0, self.axis).contiguous()


def grouping(granularity: Granularity, shape: tuple[int, ...], output_axis: int) -> Grouping:
    """How ``granularity`` cuts a weight of ``shape``; a group size must divide the row."""
    scale_shape = weight_scale_shape(granularity, shape, output_axis)
    axis = channel_axis(granularity, output_axis, len(shape))
    if isinstance(granularity, PerGroup) and prod(shape) // shape[axis] % granularity.size:
        raise ValueError(f"groups of {granularity.size} do not fit the rows of a weight {shape}")
    return grouping_of_scale(scale_shape, shape, axis)


def grouping_of_scale(scale_shape: tuple[int, ...], shape: tuple[int, ...], axis: int) -> Grouping:
    """The grouping that a scale on disk was made for: ``[1]``, ``[out]`` or ``[out, groups]``."""
    outer, groups = (*scale_shape, 1)[:2]
    if prod(shape) % max(outer * groups, 1):
        raise ValueError(f"{outer} x {groups} equal groups do not fit a weight {shape}")
    return Grouping(shape, axis, outer, groups, scale_shape)

"""A layer's weight in the two shapes that matter: as rows of a product, and as scale groups."""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from qcompile.policy.number_format import has_blocks
from qcompile.policy.scheme import PerChannel, PerGroup, PerTensor, QuantSlot
from qcompile.policy.size import channel_axis
from qcompile.quant.geometry import Geometry, weight_of_rows, weight_rows
from qcompile.quant.grid import Grid, smallest_scale
from qcompile.quant.grouping import Grouping, grouping
from qcompile.quant.level_grid import LevelGrid, level_table
from qcompile.quant.range_search import weight_range

LayerGrid: TypeAlias = Grid | LevelGrid
"""Parameters ``[outer, groups, 1]`` (see ``Grouping``)."""

STRIDE = 5
"""Of the range search on a solved target, in factors."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One weight that multiplies rows of inputs."""

    weight: Tensor
    """As the model holds it."""
    spec: QuantSlot
    output_axis: int
    geometry: Geometry

    @property
    def grouping(self) -> Grouping:
        return grouping(self.spec.granularity, tuple(self.weight.shape), self.output_axis)

    @property
    def scale_size(self) -> int | None:
        """Neighbours of a row that share a scale; ``None`` where rows do not stand alone."""
        match self.spec.granularity:
            case PerGroup(size=size):
                return size
            case PerChannel() if self._is_by_output:
                return self.weight.numel() // self.weight.shape[self.output_axis]
            case _:
                return None

    @property
    def has_free_scale(self) -> bool:
        """That of a block format is one byte, and given by the largest number."""
        return not has_blocks(self.spec.format)

    def rows(self) -> Tensor:
        """``[groups, rows, k]`` in float64."""
        return weight_rows(self.weight.double(), self.geometry)

    def range_of(self, rows: Tensor, costs: Tensor | None = None) -> Grid:
        """The grid that the layer's observer finds for other weights in place of its own.

        By a coarser search: it is where a solver starts. ``costs`` ``[groups, k]`` are of an error
        in each input's weight. Symmetric groups of inputs find their ranges by them. A whole row
        finds the same either way, and solvers try several scales for it; with zero points there
        was no gain.
        """
        shape = tuple(self.weight.shape)
        counts = None
        is_of_groups = isinstance(self.spec.granularity, PerGroup) and self.spec.symmetric
        if costs is not None and is_of_groups:
            spread = (costs / costs.mean(1, keepdim=True))[:, None, :].expand_as(rows)
            counts = weight_of_rows(spread.float(), shape, self.geometry)
        weight = weight_of_rows(rows.float(), shape, self.geometry)
        return weight_range(weight, self.spec, self.output_axis, stride=STRIDE, counts=counts)

    def spread(self, parameter: Tensor) -> Tensor:
        """One value a scale group ``[outer, groups, 1]`` as one a weight, in rows, float64."""
        view = self.grouping
        size = (view.outer, view.groups, view.size)
        return weight_rows(view.restore(parameter.double().expand(size)), self.geometry)

    def grid_of(self, scale: Tensor, zero_point: Tensor, like: LayerGrid) -> LayerGrid:
        """The inverse of ``spread`` for a scale and a zero point, in float32 as on disk."""

        def gathered(rows: Tensor) -> Tensor:
            return self._grouped(rows)[..., :1].float()

        if not self.has_free_scale:
            return like
        step = gathered(scale).clamp(min=smallest_scale(torch.ones((), dtype=torch.float32)))
        if isinstance(like, LevelGrid):
            return LevelGrid(like.levels, step)
        return Grid(step, gathered(zero_point), like.qmin, like.qmax)

    def codes_of(self, rows: Tensor) -> Tensor:
        """Codes ``[groups, rows, k]`` as ``[outer, groups, size]`` of the grouping, int16."""
        return self._grouped(rows).to(torch.int16)

    def _grouped(self, rows: Tensor) -> Tensor:
        shape = tuple(self.weight.shape)
        return self.grouping.view(weight_of_rows(rows, shape, self.geometry))

    @property
    def _is_by_output(self) -> bool:
        if isinstance(self.spec.granularity, PerTensor):
            return False
        rank = self.weight.dim()
        return channel_axis(self.spec.granularity, self.output_axis, rank) == self.output_axis


def zero_of(grid: LayerGrid) -> Tensor:
    return torch.zeros_like(grid.scale) if isinstance(grid, LevelGrid) else grid.zero_point


def codes_of(grid: LayerGrid) -> tuple[int, int, tuple[Tensor, Tensor] | None]:
    """Least and last code of a ``Quadratic``, and its levels: codes are then their places."""
    if not isinstance(grid, LevelGrid):
        return grid.qmin, grid.qmax, None
    values, edges = level_table(grid.levels)
    return 0, len(values) - 1, (values, edges)

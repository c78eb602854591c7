"""Round to nearest: the first way to choose codes, and the one every other is measured by."""

from torch import Tensor

from qcompile.quant.grid import Grid
from qcompile.quant.level_grid import LevelGrid


def nearest(grouped: Tensor, grid: Grid | LevelGrid) -> Tensor:
    """Codes (int16) of the weight view ``[outer, groups, size]``, each for itself."""
    return grid.quantize(grouped)

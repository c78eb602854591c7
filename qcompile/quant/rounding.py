"""Round to nearest: the first way to choose codes, and the one every other is measured by."""

from torch import Tensor

from qcompile.quant.grid import Grid


def nearest(grouped: Tensor, grid: Grid) -> Tensor:
    """Codes (int16) of the weight view ``[outer, groups, size]``, each for itself."""
    return grid.quantize(grouped)

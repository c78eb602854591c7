"""A damped Gram matrix taken apart once, for everything that a layer's solvers do with it.

Frantar et al. (2210.17323) spread the error of each rounded column over the columns after it by
the upper Cholesky factor ``R`` of the inverse, ``G^-1 = R^T R``. The same factor solves for the
target. Reversed, ``G = U U^T`` with ``U`` upper is a plain Cholesky factorisation and ``R`` is the
inverse of ``U``: two thirds of ``k^3`` operations instead of four thirds by way of ``G^-1``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from qcompile.quant.quadratic import damped

Order = Literal["natural", "activation"]
RETRIES = 3
"""Times that damping is raised tenfold when the Gram matrix is not positive definite."""
_LEAF = 64
"""Width below which a triangle is inverted column by column."""


class NotPositiveDefiniteError(ArithmeticError):
    """Damping of ``10 ** RETRIES`` times the first did not help: the statistics are unusable."""


@dataclass(frozen=True, slots=True, eq=False)
class Elimination:
    """Of ``groups`` damped Gram matrices of width ``k``; float64."""

    diagonal: Tensor
    """``[groups, k]``: all in which the damped matrix differs, in the order of the inputs."""
    columns: Tensor
    """``[groups, k]``: the order in which columns are rounded."""
    factor: Tensor
    """``R`` of the Gram matrix in that order, ``[groups, k, k]``."""
    damping: float
    """That made it positive definite."""
    raised: bool = False
    """It is more than was asked for."""

    def damped(self, gram: Tensor) -> Tensor:
        """The damped matrix in float32, of the one that it was made from."""
        found = gram.to(torch.float32, copy=True)
        found.diagonal(dim1=-2, dim2=-1).copy_(self.diagonal)
        return found

    @property
    def costs(self) -> Tensor:
        """What an error in each input's weight costs once later columns have made up for it.

        ``[groups, k]``, in the order of the inputs: the variance of an input as far as those of
        later columns do not tell it.
        """
        own = self.factor.diagonal(dim1=-2, dim2=-1).double().square().reciprocal()
        return torch.empty_like(own).scatter_(1, self.columns, own)

    def single(self) -> "Elimination":
        """With the factor in float32."""
        return replace(self, factor=self.factor.float())

    def solved(self, right: Tensor) -> Tensor:
        """``right @ gram^-1`` for rows ``[groups, rows, k]``."""
        groups, rows, k = right.shape
        place = self.columns[:, None, :].expand(groups, rows, k)
        found = right.gather(2, place) @ self.factor.transpose(1, 2) @ self.factor
        return torch.empty_like(found).scatter_(2, place, found)


def eliminate(gram: Tensor, order: Order, damping: float) -> Elimination:
    """Damping in mean diagonals; 0 has no retries. Raises ``NotPositiveDefiniteError``."""
    gram = gram.double()
    for retry in range(RETRIES + 1 if damping else 1):
        used = damping * 10**retry
        safe = damped(gram, used)
        columns = _order(safe, order)
        triangle, info = torch.linalg.cholesky_ex(_permuted(safe, columns.flip(1)))
        if int(info.abs().max()) == 0:
            diagonal = safe.diagonal(dim1=-2, dim2=-1).clone()
            del safe  # wide layers: of what is needed no more, nothing is held
            triangle = triangle.flip(1, 2)
            return Elimination(diagonal, columns, upper_inverse(triangle), used, raised=retry > 0)
    raise NotPositiveDefiniteError


def stacked(many: Sequence[Elimination]) -> Elimination:
    """One of all their groups, the first one's groups first; ``damping`` is that of the first."""
    return replace(
        many[0],
        diagonal=torch.cat([one.diagonal for one in many]),
        columns=torch.cat([one.columns for one in many]),
        factor=torch.cat([one.factor for one in many]),
    )


def upper_inverse(upper: Tensor) -> Tensor:
    """Inverse of upper triangular matrices ``[groups, k, k]``, by halves: nearly all products."""
    k = upper.shape[-1]
    if k <= _LEAF:
        one = torch.eye(k, dtype=upper.dtype, device=upper.device).expand_as(upper)
        return torch.linalg.solve_triangular(upper, one, upper=True)
    half = k // 2
    first, last = upper_inverse(upper[:, :half, :half]), upper_inverse(upper[:, half:, half:])
    found = torch.zeros_like(upper)
    found[:, :half, :half], found[:, half:, half:] = first, last
    found[:, :half, half:] = -(first @ upper[:, :half, half:] @ last)
    return found


def _order(gram: Tensor, order: Order) -> Tensor:
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    if order == "natural":
        return torch.arange(diagonal.shape[1], device=gram.device).expand_as(diagonal)
    return diagonal.argsort(dim=1, descending=True, stable=True)


def _permuted(gram: Tensor, columns: Tensor) -> Tensor:
    groups, k = columns.shape
    rows_done = gram.gather(1, columns[:, :, None].expand(groups, k, k))
    return rows_done.gather(2, columns[:, None, :].expand(groups, k, k))

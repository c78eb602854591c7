"""The rounding problem of one layer as a quadratic form.

Rows ``w`` of a weight are rounded so that ``(w_hat - target) G (w_hat - target)^T`` is small, where
``G`` is the second moment of the layer's inputs. Everything a layer-local solver needs is here; the
samples are not.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Quadratic:
    """``groups`` independent problems of ``rows`` rows each (one group for a dense layer).

    ``target`` is ``[groups, rows, k]``, ``gram`` is ``[groups, k, k]``, symmetric and positive
    semi-definite; ``scale`` (> 0) and ``zero_point`` broadcast to ``target``. A code ``c`` in
    ``[qmin, qmax]`` stands for ``scale * (c - zero_point)``, or with ``levels`` for
    ``scale * values[c]``: codes are then the places of levels in their order, from 0.
    """

    target: Tensor
    gram: Tensor
    scale: Tensor
    zero_point: Tensor
    qmin: int
    qmax: int
    levels: tuple[Tensor, Tensor] | None = None
    """Values and edges of a ``level_table``."""

    def nearest(self) -> Tensor:
        return self.codes(self.target / self.scale, self.zero_point)

    def codes(self, ratio: Tensor, zero_point: Tensor) -> Tensor:
        """Nearest ones, in the dtype of ``ratio``, which is in units of the scale."""
        if self.levels is None:
            return (torch.round(ratio) + zero_point).clamp_(self.qmin, self.qmax)
        return torch.bucketize(ratio.contiguous(), self.levels[1]).to(ratio.dtype)

    def steps(self, codes: Tensor, zero_point: Tensor) -> Tensor:
        """What codes stand for, in units of the scale."""
        return codes - zero_point if self.levels is None else self.levels[0][codes.long()]

    def values(self, codes: Tensor) -> Tensor:
        return self.steps(codes, self.zero_point) * self.scale

    def residual(self, codes: Tensor) -> Tensor:
        """Half of the objective's gradient by the values, ``[groups, rows, k]``."""
        return (self.values(codes) - self.target) @ self.gram

    def objective(self, codes: Tensor, residual: Tensor | None = None) -> Tensor:
        """Error of each row, ``[groups, rows]``; ``residual`` where it is at hand."""
        residual = self.residual(codes) if residual is None else residual
        return (residual * (self.values(codes) - self.target)).sum(-1)

    def with_scale(self, scale: Tensor) -> "Quadratic":
        return replace(self, scale=scale)


def damped(gram: Tensor, fraction: float) -> Tensor:
    """``G + fraction * mean(diag G) * I`` for each group; dead inputs (``G_jj = 0``) get 1."""
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    mean = diagonal.mean(-1, keepdim=True)
    bump = torch.where(diagonal == 0, torch.ones_like(diagonal), fraction * mean)
    found = gram.clone()
    found.diagonal(dim1=-2, dim2=-1).add_(bump)
    return found

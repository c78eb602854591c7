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
    ``[qmin, qmax]`` stands for ``scale * (c - zero_point)``.
    """

    target: Tensor
    gram: Tensor
    scale: Tensor
    zero_point: Tensor
    qmin: int
    qmax: int

    def nearest(self) -> Tensor:
        codes = torch.round(self.target / self.scale) + self.zero_point
        return codes.clamp(self.qmin, self.qmax)

    def values(self, codes: Tensor) -> Tensor:
        return (codes - self.zero_point) * self.scale

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
    return gram + torch.diag_embed(bump)

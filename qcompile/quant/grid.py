"""The uniform affine grid: which real numbers the codes stand for."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qcompile.compat.function_transforms import is_plain


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The numbers ``scale * (code - zero_point)`` for the integers ``qmin <= code <= qmax``.

    Invariants, checked by ``check``:

    - ``qmin < qmax``;
    - ``scale`` and ``zero_point`` have one shape, which broadcasts against the tensors in use,
      and one floating dtype;
    - ``scale`` is finite, positive and never denormal (so that its reciprocal is finite too);
    - ``zero_point`` holds integers in ``[qmin, qmax]``: zero is a number of the grid.
    """

    scale: Tensor
    """In the units of the quantized tensor."""
    zero_point: Tensor
    qmin: int
    qmax: int

    def quantize(self, x: Tensor) -> Tensor:
        """Codes (int16) for ``x``: round half to even, then saturate."""
        steps = torch.round(x.to(self.scale.dtype) / self.scale)
        return (steps + self.zero_point).clamp(self.qmin, self.qmax).to(torch.int16)

    def dequantize(self, codes: Tensor) -> Tensor:
        """Numbers for ``codes``, in the dtype of the scale."""
        return (codes - self.zero_point) * self.scale

    def fake_quantize(self, x: Tensor) -> Tensor:
        """``dequantize(quantize(x))`` in the dtype of ``x``, without the integers between.

        Bit-identical to the two steps: the zero point moves from the codes to the bounds, and
        sums of small integers are exact. In place: a new tensor for each step would take most of
        the time, for memory that the system has to give.
        """
        steps = (x.to(self.scale.dtype) / self.scale).round_()
        low, high = self.qmin - self.zero_point, self.qmax - self.zero_point
        own = not torch.compiler.is_compiling() and is_plain(steps)
        kept = saturate(steps, low, high, steps if own else None)
        return kept.mul_(self.scale).to(x.dtype)


def saturate(x: Tensor, low: Tensor, high: Tensor, out: Tensor | None = None) -> Tensor:
    """``torch.clamp`` with tensor bounds, ten times as fast on a CPU (torch 2.13).

    Into ``out``, which may be ``x``.
    """
    return torch.minimum(torch.maximum(x, low, out=out), high, out=out)


def check(grid: Grid) -> None:
    """Raise ``ValueError`` when an invariant of ``Grid`` does not hold."""
    scale, zero_point = grid.scale, grid.zero_point
    if grid.qmin >= grid.qmax:
        raise ValueError(f"no codes between {grid.qmin} and {grid.qmax}")
    if scale.shape != zero_point.shape or scale.dtype != zero_point.dtype:
        raise ValueError("scale and zero point differ in shape or dtype")
    if not scale.is_floating_point():
        raise ValueError(f"the scale is {scale.dtype}, not a floating dtype")
    if not bool(torch.isfinite(scale).all()) or not bool((scale >= smallest_scale(scale)).all()):
        raise ValueError("a scale is not finite, not positive or denormal")
    inside = (zero_point >= grid.qmin) & (zero_point <= grid.qmax)
    if not bool((inside & (zero_point == zero_point.round())).all()):
        raise ValueError(f"a zero point is no integer in [{grid.qmin}, {grid.qmax}]")


def covering(low: Tensor, high: Tensor, qmin: int, qmax: int, *, symmetric: bool) -> Grid:
    """The finest grid that takes every number in ``[low, high]`` to within half a step.

    Zero always belongs to the range. A symmetric grid has zero point 0; on unsigned codes it has
    nothing below zero, whatever ``low`` says. A range of width zero gets scale 1: any scale is
    exact there, and 1 is harmless to kernels that divide a bias by it.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    if symmetric:
        negative = low / qmin if qmin < 0 else torch.zeros_like(low)
        raw = torch.maximum(high / qmax, negative)
    else:
        # not (high - low) / n: the difference of two large float32 numbers overflows
        raw = high / (qmax - qmin) - low / (qmax - qmin)
    return with_scale(raw, low, qmin, qmax, symmetric=symmetric)


def covering_turned(low: Tensor, high: Tensor, qmin: int, qmax: int) -> Grid:
    """The same on signed codes, with the longer end on the side where numbers are larger.

    Where that is ``high``, the zero point is -1 in place of 0: codes stand for ``qmin + 1`` to
    ``qmax + 1``. It is the grid of codes ``-1 - c`` with a negative scale and no zero point.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    zero_point = torch.where(high > -low, -1.0, 0.0).to(low.dtype)
    raw = torch.maximum(high / (qmax - zero_point), low / (qmin - zero_point))
    return replace(with_scale(raw, low, qmin, qmax, symmetric=True), zero_point=zero_point)


def with_scale(raw: Tensor, low: Tensor, qmin: int, qmax: int, *, symmetric: bool) -> Grid:
    """A grid of the step ``raw``, made safe, whose least number lies nearest to ``low``."""
    scale = raw.clamp(min=smallest_scale(raw))
    scale = torch.where(raw == 0, torch.ones_like(raw), scale)
    if symmetric:
        return Grid(scale, torch.zeros_like(scale), qmin, qmax)
    zero_point = torch.round(qmin - low / scale).clamp(qmin, qmax)
    return Grid(scale, zero_point, qmin, qmax)


def smallest_scale(like: Tensor) -> float:
    """The least normal number of float32, the type on disk, or of a narrower dtype."""
    return max(torch.finfo(torch.float32).tiny, torch.finfo(like.dtype).tiny)

"""What a layer-local solver needs to know of the samples: moments of inputs and wanted outputs.

With ``q`` the layer's input behind the quantized prefix and ``t`` the output that is wanted of it,
``E |W q + b - t|^2`` is a quadratic form in ``W`` and ``b``, whose coefficients are the moments
below; the samples themselves are needed no more.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TypeVar

import torch
from torch import Tensor

from qcompile.quant.geometry import Dense, Geometry, output_rows, pieces, rows
from qcompile.quant.second_moment import second_moment

A = TypeVar("A")
B = TypeVar("B")

END = object()
WIDE = 8 << 20
"""Bytes of a Gram matrix."""
AS_MANY = 2
"""Outputs for each input, from which wanted outputs are told by what they are made of."""


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """Of inputs ``[groups, k]`` and of wanted outputs ``[groups, rows]``; float64."""

    input: Tensor
    target: Tensor

    def bias(self, weight: Tensor) -> Tensor:
        """The bias ``[groups, rows]`` with which the mean error of ``weight`` is zero."""
        return self.target - (weight @ self.input[:, :, None])[..., 0]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Of ``groups`` groups of ``rows`` outputs over ``k`` inputs; float64."""

    gram: Tensor
    """``E[q q^T]``, ``[groups, k, k]``"""
    cross: Tensor
    """``E[t q^T]``, ``[groups, rows, k]``"""
    mean_input: Tensor
    """``[groups, k]``"""
    mean_target: Tensor
    """``[groups, rows]``"""
    power: Tensor
    """``E[t^2]``, ``[groups, rows]``"""
    samples: int

    def centred(self) -> "Moments":
        """Covariances: what is left to the weight when the bias is set exactly afterwards."""
        q, t = self.mean_input, self.mean_target
        return Moments(
            self.gram - q[:, :, None] * q[:, None, :],
            self.cross - t[:, :, None] * q[:, None, :],
            torch.zeros_like(q),
            torch.zeros_like(t),
            self.power - t.square(),
            self.samples,
        )

    def of_product(self, weight: Tensor) -> "Moments":
        """With ``W q`` for the wanted outputs."""
        cross = weight @ self.gram
        mean_target = (weight @ self.mean_input[:, :, None])[..., 0]
        power = (cross * weight).sum(-1)
        return Moments(self.gram, cross, self.mean_input, mean_target, power, self.samples)

    def of_rows(self, rows: slice) -> "Moments":
        """For some of the outputs."""
        return replace(
            self,
            cross=self.cross[:, rows],
            mean_target=self.mean_target[:, rows],
            power=self.power[:, rows],
        )

    @property
    def means(self) -> Means:
        return Means(self.mean_input, self.mean_target)

    def error(self, weight: Tensor, bias: Tensor | float = 0.0) -> Tensor:
        """``E |W q + b - t|^2`` for each output, ``[groups, rows]``."""
        around = ((weight @ self.gram) * weight).sum(-1) - 2 * (weight * self.cross).sum(-1)
        mean_error = (weight @ self.mean_input[:, :, None])[..., 0] - self.mean_target
        return around + self.power + bias * (bias + 2 * mean_error)


@dataclass(frozen=True, slots=True, eq=False)
class FromInputs:
    """Wanted outputs that are ``W f`` of other inputs ``f``: ``E[t q^T] = W E[f q^T]``.

    Where there are more outputs than inputs that is the smaller product.
    """

    weight: Tensor
    """``[groups, rows, k]``, float64"""
    inputs: Iterable[Tensor]
    """By batch."""


def tells_by_inputs(groups: int, rows: int, k: int) -> bool:
    """Whether that is much the smaller product."""
    return groups == 1 and rows >= AS_MANY * k


def is_wide(k: int) -> bool:
    """A Gram matrix of so many inputs fits into none of the holes that values leave in memory."""
    return k * k * torch.float64.itemsize > WIDE


class UnusableSamplesError(ArithmeticError):
    """There are none, or some are not finite."""


def moments(
    pairs: Iterable[tuple[Tensor, Tensor]],
    geometry: Geometry,
    weights: Sequence[Tensor | None] | None = None,
    of_inputs: FromInputs | None = None,
) -> Moments:
    """Over batches of ``(inputs behind the prefix, wanted outputs)`` of the layer.

    ``weights`` ``[1, samples]`` of each batch say how much a row counts; without, all alike.
    ``of_inputs`` is only another way to the same numbers.

    Products are taken in float32 around the means of the first rows, and moved back in float64:
    a mean that is large beside the spread would drown it. Raises ``UnusableSamplesError``.
    """
    total: list[Tensor] = []
    around: tuple[Tensor, Tensor, Tensor | None] | None = None
    samples = 0
    for x, y, weight, plain in _in_pieces(pairs, geometry, weights, of_inputs):
        q, t = rows(x.float(), geometry), output_rows(y.float(), geometry)
        f = None if plain is None else rows(plain.float(), geometry)
        if not q.shape[1]:
            continue
        if around is None:
            around = _means(q, t, f, of_inputs)
        q, t = _less(q, around[0], x), _less(t, around[1], y)
        f = None if f is None or around[2] is None else f - around[2]
        part = _sums(q, t, weight, f)
        total = [a.add_(b) for a, b in zip(total, part, strict=True)] if total else part
        samples += q.shape[1]
        del x, y, plain, q, t, f  # not held while the next batch is made
    if around is None or not all(bool(torch.isfinite(part).all()) for part in total):
        raise UnusableSamplesError
    gram, cross, *vectors, whole = total
    mean_input, mean_target, power = (part / whole[:, None] for part in vectors)
    gram.div_(whole[:, None, None])
    cross.div_(whole[:, None, None])
    if of_inputs is not None:
        cross = of_inputs.weight @ cross
    near = Moments(gram, cross, mean_input, mean_target, power, samples)
    return _moved(near, around[0][:, 0].double(), around[1][:, 0].double())


def _moved(near: Moments, input_by: Tensor, target_by: Tensor) -> Moments:
    """Of ``q + input_by`` and ``t + target_by``; takes over the matrices of ``near``."""
    a, b = input_by[:, None, :], target_by[:, :, None]
    q, t = near.mean_input[:, None, :], near.mean_target[:, :, None]
    outer = q.transpose(1, 2) @ a
    near.gram.add_(outer).add_(outer.transpose(1, 2)).add_(a.transpose(1, 2) @ a)
    near.cross.add_(t @ a).add_(b @ q).add_(b @ a)
    power = near.power + target_by * (2 * near.mean_target + target_by)
    return replace(
        near,
        mean_input=near.mean_input + input_by,
        mean_target=near.mean_target + target_by,
        power=power,
    )


def _in_pieces(
    pairs: Iterable[tuple[Tensor, Tensor]],
    geometry: Geometry,
    weights: Sequence[Tensor | None] | None,
    of_inputs: FromInputs | None,
) -> Iterator[tuple[Tensor, Tensor, Tensor | None, Tensor | None]]:
    """Inputs, wanted outputs, weights of rows, and of what outputs are made, some samples each."""
    plain_inputs = None if of_inputs is None else of_inputs.inputs
    for ((inputs, wanted), weight), plain in _beside(_beside(pairs, weights), plain_inputs):
        if isinstance(geometry, Dense):  # rows as they are, of a value of any rank
            yield inputs, wanted, weight, plain
        else:
            each = 0 if weight is None else weight.shape[1] // max(len(inputs), 1)
            for piece in pieces(inputs, wanted, geometry):
                own = None if weight is None else weight[:, piece.start * each : piece.stop * each]
                yield inputs[piece], wanted[piece], own, None if plain is None else plain[piece]
        del inputs, wanted, plain


def _beside(first: Iterable[A], second: Iterable[B] | None) -> Iterator[tuple[A, B | None]]:
    """As a strict ``zip``, but nothing is held while the next pair is made."""
    others = repeat(None) if second is None else iter(second)
    for one in first:
        other = next(others)
        yield one, other
        del one, other
    if second is not None and next(others, END) is not END:
        raise ValueError("there are more of the second than of the first")


def _less(rows_: Tensor, mean: Tensor, source: Tensor) -> Tensor:
    """``rows_ - mean``; in place if they are a copy, which of patches is many times the source."""
    own = rows_.untyped_storage().data_ptr() != source.untyped_storage().data_ptr()
    return rows_.sub_(mean) if own else rows_ - mean


def _means(
    q: Tensor, t: Tensor, f: Tensor | None, of_inputs: FromInputs | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Of the first batch; those of ``t`` are ``W`` times those of ``f``, where it is made of it."""
    mean_q = q.mean(1, keepdim=True)
    if f is None or of_inputs is None:
        return mean_q, t.mean(1, keepdim=True), None
    mean_f = f.mean(1, keepdim=True)
    mean_t = mean_f.double() @ of_inputs.weight.transpose(1, 2)
    return mean_q, mean_t.to(t.dtype), mean_f


def _sums(q: Tensor, t: Tensor, weight: Tensor | None, f: Tensor | None) -> list[Tensor]:
    """Of ``q q^T``, ``t q^T`` or ``f q^T``, ``q``, ``t``, ``t^2`` and the weights, in float64."""
    made = t if f is None else f
    if weight is None:
        heavy_q, heavy_t, heavy = q, t, made
        whole = torch.full((1,), q.shape[1], dtype=torch.float64, device=q.device)
    else:
        heavy_q, heavy_t, heavy = (one * weight[..., None] for one in (q, t, made))
        whole = weight.sum(1, dtype=torch.float64)
    return [
        second_moment(heavy_q, q).double(),
        (heavy.transpose(1, 2) @ q).double(),
        heavy_q.sum(1).double(),
        heavy_t.sum(1).double(),
        (heavy_t * t).sum(1).double(),
        whole,
    ]

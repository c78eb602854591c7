"""A weight on a grid of levels as it lies on disk, one set of tensors for each term."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from qcompile.policy.number_format import (
    BlockFormat,
    CodebookFormat,
    PowerFormat,
    SingleFormat,
    terms_of,
)
from qcompile.policy.scheme import MinMax, QuantSlot
from qcompile.policy.size import Part, channel_axis, part_name, weight_layout
from qcompile.quant.block_scale import block_parts, true_scale
from qcompile.quant.grouping import Grouping, grouping, grouping_of_scale
from qcompile.quant.level_grid import LevelGrid
from qcompile.quant.level_search import fitted_exponent, fitted_levels, fitted_scale
from qcompile.quant.levels import levels
from qcompile.quant.packing import pack, unpack

Parts = Mapping[Part, Tensor]
StoredTerm = tuple[Tensor, Tensor, Tensor | None, Tensor, int]
"""Packed codes, scale, scale of the tensor, levels by code, bits of a code."""


@dataclass(frozen=True, slots=True, eq=False)
class LevelWeight:
    """The sum of its terms; each is ``scale * levels[code]``."""

    terms: tuple[Parts, ...]
    spec: QuantSlot
    shape: tuple[int, ...]
    output_axis: int

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors("").values())

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        return self._sum(len(self.terms), dtype)

    def without_last_term(self, dtype: torch.dtype) -> Tensor | None:
        """``None`` where there is one term."""
        return self._sum(len(self.terms) - 1, dtype) if len(self.terms) > 1 else None

    def _sum(self, count: int, dtype: torch.dtype) -> Tensor:
        axis = channel_axis(self.spec.granularity, self.output_axis, len(self.shape))
        return dequantize_levels(self._stored()[:count], self.shape, axis, dtype)

    def _stored(self) -> list[StoredTerm]:
        terms = zip(terms_of(self.spec.format), self.terms, strict=True)
        return [stored_term(number, parts) for number, parts in terms]

    @property
    def grid(self) -> LevelGrid:
        """Of the only term, with scales ``[outer, groups, 1]`` (see ``Grouping``)."""
        ((_, scale, tensor_scale, table, _),) = self._stored()
        view = grouping(self.spec.granularity, self.shape, self.output_axis)
        true = true_scale(scale, tensor_scale).reshape(view.outer, view.groups, 1)
        return LevelGrid(table, true)

    def with_codes(self, codes: Tensor, scale: Tensor) -> "LevelWeight":
        """Other codes ``[outer, groups, size]`` of the only term, and scales that may move."""
        view = grouping(self.spec.granularity, self.shape, self.output_axis)
        (parts,) = self.terms
        found: dict[Part, Tensor] = {"codes": pack(view.restore(codes), self.spec.bits)}
        if parts["scale"].is_floating_point():
            found["scale"] = scale.reshape(view.scale_shape)
        return replace(self, terms=({**parts, **found},))

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Artifact tensors; ``prefix`` is the path of the parameter."""
        return {
            part_name(prefix, term, part): tensor
            for term, parts in enumerate(self.terms)
            for part, tensor in parts.items()
        }


def levels_from_tensors(
    tensors: Mapping[str, Tensor],
    prefix: str,
    spec: QuantSlot,
    shape: tuple[int, ...],
    output_axis: int,
) -> LevelWeight:
    """The inverse of ``LevelWeight.tensors``."""
    terms: list[dict[Part, Tensor]] = [{} for _ in terms_of(spec.format)]
    for part in weight_layout(spec, shape, output_axis):
        terms[part.term][part.part] = tensors[part.name(prefix)]
    return LevelWeight(tuple(terms), spec, shape, output_axis)


def quantize_levels(weight: Tensor, spec: QuantSlot, output_axis: int) -> LevelWeight:
    """``weight`` rounded to the nearest levels; a term of a sum gets what is left before it."""
    shape = tuple(weight.shape)
    view = grouping(spec.granularity, shape, output_axis)
    axis = channel_axis(spec.granularity, output_axis, len(shape))
    rest, terms = weight.float(), list[Parts]()
    for number in terms_of(spec.format):
        parts = _quantized(view.view(rest).flatten(0, 1), number, spec, view)
        terms.append(parts)
        rest = rest - dequantize_levels([stored_term(number, parts)], shape, axis, torch.float32)
    return LevelWeight(tuple(terms), spec, shape, output_axis)


def _quantized(rows: Tensor, number: SingleFormat, spec: QuantSlot, view: Grouping) -> Parts:
    found = _grid_parts(rows, number, spec)
    scale = true_scale(found["scale"], found.get("tensor_scale"))
    grid = LevelGrid(_levels(number, found).to(rows.device), scale.reshape(-1, 1))
    codes = grid.quantize(rows).view(view.outer, view.groups, view.size)
    return {
        "codes": pack(view.restore(codes), number.bits),
        **found,
        "scale": found["scale"].reshape(view.scale_shape),
    }


def _grid_parts(rows: Tensor, number: SingleFormat, spec: QuantSlot) -> dict[Part, Tensor]:
    """All parts of a term but its codes."""
    match number:
        case BlockFormat():
            return block_parts(rows.abs().amax(dim=1, keepdim=True), number)
        case CodebookFormat(bits):
            scale = fitted_scale(rows, rows.new_tensor([-1.0, 1.0]), MinMax())
            return {"scale": scale, "levels": fitted_levels(rows, scale, 1 << bits)}
        case PowerFormat(bits, None):
            exponent = rows.new_tensor([fitted_exponent(rows, bits, spec.observer)])
            table = levels(number, exponent).to(rows.device)
            return {"scale": fitted_scale(rows, table, spec.observer), "exponent": exponent}
        case _:
            table = levels(number).to(rows.device)
            return {"scale": fitted_scale(rows, table, spec.observer)}


def _levels(number: SingleFormat, parts: Parts) -> Tensor:
    parameter = parts.get("exponent")
    return levels(number, parts.get("levels") if parameter is None else parameter)


def stored_term(number: SingleFormat, parts: Parts) -> StoredTerm:
    table = _levels(number, parts).to(parts["codes"].device)
    return parts["codes"], parts["scale"], parts.get("tensor_scale"), table, number.bits


def dequantize_levels(
    terms: "list[StoredTerm] | tuple[StoredTerm, ...]",
    shape: tuple[int, ...],
    output_axis: int,
    dtype: torch.dtype,
    unpacked: Callable[[Tensor, int, int], Tensor] = unpack,
) -> Tensor:
    """The weight behind packed codes, in the arithmetic of the sweep: may stand in an ``fx`` graph.

    ``output_axis`` is the axis of ``shape`` that a per-channel or per-group scale follows;
    ``unpacked`` gives what ``unpack`` gives.
    """
    total: Tensor | None = None
    for packed, scale, tensor_scale, table, bits in terms:
        view = grouping_of_scale(tuple(scale.shape), tuple(shape), output_axis)
        true = true_scale(scale, tensor_scale).reshape(view.outer, view.groups, 1)
        codes = view.view(unpacked(packed, bits, prod(shape)).reshape(shape))
        term = view.restore(LevelGrid(table, true).dequantize(codes))
        total = term if total is None else total + term
    assert total is not None, "a format has at least one term"
    return total.to(dtype)

"""A stored weight taken apart for learning, and put together again."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from qcompile.methods.axes import Learned
from qcompile.policy.number_format import SingleFormat, terms_of
from qcompile.policy.size import Part
from qcompile.quant.block_scale import true_scale
from qcompile.quant.grouping import Grouping, grouping
from qcompile.quant.learned_grid import LearnedGrid
from qcompile.quant.level_grid import LevelGrid
from qcompile.quant.level_learned import LevelLearned
from qcompile.quant.level_weight import LevelWeight, stored_term
from qcompile.quant.packing import pack, unpack
from qcompile.quant.quantized_weight import QuantizedWeight, encode
from qcompile.quant.stored_weight import StoredWeight
from qcompile.quant.uniform_learned import UniformLearned


class LearnedCode(Protocol):
    """``base + view.restore(numbers of the grid)``."""

    @property
    def view(self) -> Grouping: ...

    @property
    def grid(self) -> LearnedGrid: ...

    @property
    def base(self) -> Tensor | None:
        """What is not learned: the terms of a sum before the last."""
        ...

    def start(self) -> Tensor:
        """The codes that are stored, in the view."""
        ...

    def stored(self, codes: Tensor) -> StoredWeight:
        """Other codes (int16, in the view) on the grid as it is now."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class UniformCode:
    code: QuantizedWeight
    view: Grouping
    grid: UniformLearned
    base: None = None

    def start(self) -> Tensor:
        return self.code.decoded()[0].float()

    def stored(self, codes: Tensor) -> QuantizedWeight:
        code = self.code
        return encode(codes, self.grid.hard(), code.spec, code.shape, code.output_axis)


@dataclass(frozen=True, slots=True, eq=False)
class LevelCode:
    """Of a sum of formats the last term is learned, the others stay as they are."""

    code: LevelWeight
    number: SingleFormat
    """Of the last term."""
    view: Grouping
    grid: LevelLearned
    base: Tensor | None

    def start(self) -> Tensor:
        return _unpacked(self.code.terms[-1]["codes"], self.number.bits, self.view)

    def stored(self, codes: Tensor) -> LevelWeight:
        last = self.code.terms[-1]
        learned: dict[Part, Tensor] = {"codes": pack(self.view.restore(codes), self.number.bits)}
        if last["scale"].is_floating_point():
            learned["scale"] = self.grid.scale.detach().reshape(self.view.scale_shape)
        if self.grid.exponent is not None:
            learned["exponent"] = self.grid.exponent.detach()
        if "levels" in last:
            learned["levels"] = self.grid.levels
        return replace(self.code, terms=(*self.code.terms[:-1], {**last, **learned}))


def learned_code(code: StoredWeight, learn: Collection[Learned]) -> LearnedCode:
    """The parameters of the grid that ``learn`` names, and the format has, get gradients."""
    view = grouping(code.spec.granularity, code.shape, code.output_axis)
    if isinstance(code, QuantizedWeight):
        moving = set(learn) - {"zero_point"} if code.zero_point is None else learn
        return UniformCode(code, view, UniformLearned(code.decoded()[1], moving))
    number, last = terms_of(code.spec.format)[-1], code.terms[-1]
    _, scale, tensor_scale, table, _ = stored_term(number, last)
    grid = LevelGrid(table, true_scale(scale, tensor_scale).reshape(view.outer, view.groups, 1))
    moving = learn if scale.is_floating_point() else set(learn) - {"scale"}
    levels = LevelLearned(grid, number, moving, last.get("exponent"))
    base = code.without_last_term(torch.float32)
    return LevelCode(code, number, view, levels, base)


def _unpacked(packed: Tensor, bits: int, view: Grouping) -> Tensor:
    count = view.outer * view.groups * view.size
    return view.view(unpack(packed, bits, count).reshape(view.shape))

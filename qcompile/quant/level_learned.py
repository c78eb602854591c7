"""A grid of levels while it is learned: its scale, the exponent of a power grid, or every level.

Positions are ranks of levels in order, and linear between neighbours, so that rounding a position
is rounding to the nearest level.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from qcompile.methods.axes import Learned
from qcompile.policy.number_format import CodebookFormat, PowerFormat, SingleFormat
from qcompile.quant.grid import smallest_scale
from qcompile.quant.learned_grid import Cell, clipped, straight_through
from qcompile.quant.level_grid import LevelGrid, in_order

EXPONENT_RANGE = (0.25, 2.0)
LEAST_GAP = 1e-12


class LevelLearned:
    """Gradients as in LSQ: ``l_k - (w / s) [inside]`` by the scale, ``s`` by the level that is hit.

    The exponent is learned as a logarithm (NUPES, 2308.05600); levels as logarithms of the gaps
    between them, so that their order stays.
    """

    def __init__(
        self,
        start: LevelGrid,
        number: SingleFormat,
        learn: Collection[Learned] = (),
        exponent: Tensor | None = None,
    ) -> None:
        self.start = start
        values, self._code_of_rank = in_order(start.levels)
        if len(values) == 1:  # a codebook of one number: both neighbours are that number
            values, self._code_of_rank = values.repeat(2), self._code_of_rank.repeat(2)
        self._values = values
        self._rank_of_code = torch.zeros(len(start.levels), device=values.device)
        ranks = torch.arange(len(values), device=values.device)
        self._rank_of_code[self._code_of_rank.long()] = ranks.to(self._rank_of_code)
        self._growth = torch.zeros_like(start.scale).requires_grad_() if "scale" in learn else None
        self._exponent = self._log_exponent = self._gaps = self._first = None
        match number:
            case PowerFormat() if exponent is not None and "exponent" in learn:
                self._exponent = exponent.float()
                self._log_exponent = torch.zeros_like(self._exponent).requires_grad_()
            case CodebookFormat() if "levels" in learn:
                self._gaps = torch.zeros_like(values[1:]).requires_grad_()
                self._first = values[:1].clone().requires_grad_()
            case _:
                pass

    @property
    def unit(self) -> Tensor:
        return self.start.scale

    @property
    def scale(self) -> Tensor:
        if self._growth is None:
            return self.start.scale
        return (self.start.scale * self._growth.exp()).clamp(min=smallest_scale(self._growth))

    @property
    def exponent(self) -> Tensor | None:
        """``None`` where it is not learned."""
        if self._exponent is None or self._log_exponent is None:
            return None
        return (self._exponent * self._log_exponent.exp()).clamp(*EXPONENT_RANGE)

    @property
    def values(self) -> Tensor:
        """Levels in order."""
        if self._gaps is not None and self._first is not None:
            gaps = self._values.diff() * self._gaps.exp()
            return torch.cat([self._first, self._first + gaps.cumsum(0)])
        exponent = self.exponent
        if exponent is None:
            return self._values
        last = len(self._values) // 2
        steps = torch.arange(1, last + 1, device=exponent.device) / last
        positive = steps ** (1 / exponent)
        return torch.cat([-positive.flip(0), torch.zeros_like(exponent), positive])

    @property
    def levels(self) -> Tensor:
        """By code, as on disk."""
        found = self.start.levels.clone()
        found[self._code_of_rank.long()] = self.values.detach()
        return found

    def learned(self) -> Sequence[Tensor]:
        parts = (self._growth, self._log_exponent, self._gaps, self._first)
        return [part for part in parts if part is not None]

    def position(self, weight: Tensor) -> Tensor:
        """Levels stand still in this gradient: what they get is in ``at`` and ``rounded``."""
        values = self.values.detach()
        scaled = weight / self._safe_scale()
        place = self._place(torch.searchsorted(values, scaled.detach().contiguous()) - 1)
        return place + (scaled - values[place]) / values.diff().clamp(min=LEAST_GAP)[place]

    def position_of(self, codes: Tensor) -> Tensor:
        return self._rank_of_code[codes.long()]

    def floor(self, position: Tensor) -> Tensor:
        return self._place(torch.floor(position)).to(position.dtype)

    def cell(self, floor: Tensor) -> Cell:
        values, place = self.values, floor.long()
        step = values.diff()[place] * self.scale
        zero = torch.zeros_like(floor)
        return Cell(zero, step, zero, (0, 1), offset=values[place] * self.scale)

    def at(self, position: Tensor) -> Tensor:
        values = self.values
        inside = clipped(position, *self._ends())
        place = self._place(torch.floor(inside.detach()).long())
        return (values[place] + (inside - place) * values.diff()[place]) * self.scale

    def rounded(self, position: Tensor) -> Tensor:
        values = self.values
        rank = straight_through(position, *self._ends())
        # what is not a number stays so in the result, where the loss shows it
        whole = torch.round(rank.detach()).nan_to_num(0).long()
        # the slope of the gap that the number lies in undoes that of ``position``
        gap = values.detach().diff()[self._place(torch.floor(position.detach()).long())]
        return (values[whole] + (rank - rank.detach()) * gap) * self.scale

    @torch.no_grad()
    def codes(self, position: Tensor) -> Tensor:
        rank = torch.round(position).clamp(0, len(self._values) - 1)
        return self._code_of_rank[rank.long()]

    def _place(self, position: Tensor) -> Tensor:
        """Of the gap, which for the last level is the one below it."""
        return position.clamp(0, len(self._values) - 2)

    def _ends(self) -> tuple[Tensor, Tensor]:
        return self._values.new_zeros(()), self._values.new_tensor(float(len(self._values) - 1))

    def _safe_scale(self) -> Tensor:
        scale = self.scale
        return torch.where(scale == 0, torch.ones_like(scale), scale)

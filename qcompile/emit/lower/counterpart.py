"""Which value of the reference a node of the lowered graph makes, so that each can be compared."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.emit.lower.layer import StaticInput

KEY = "qcompile_counterpart"


@dataclass(frozen=True, slots=True)
class Counterpart:
    node: str
    """In the reference."""
    codes: StaticInput | None = None
    """The lowered node makes codes of this grid, the reference their values."""

    def value_of(self, made: Tensor) -> Tensor:
        """``made`` in the numbers of the reference."""
        if self.codes is None:
            return made
        return (made.to(torch.float32) - self.codes.zero_point) * self.codes.scale

    def like(self, made: Tensor, value: Tensor) -> Tensor:
        """``value`` of the reference in the numbers and the memory layout of ``made``."""
        if self.codes is not None:
            value = (value / self.codes.scale).round() + self.codes.zero_point
        return torch.empty_like(made).copy_(value)


def counterpart(node: fx.Node) -> Counterpart | None:
    """``None`` where ``node`` was not put in by the lowering."""
    return cast("Counterpart | None", node.meta.get(KEY))


def set_counterpart(node: fx.Node, value: Counterpart) -> None:
    node.meta[KEY] = value

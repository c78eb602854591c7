"""Float parameters that are learned beside the codes: biases of layers, and norms."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LearnedParameter:
    """``start + unit * shift``, in the type of the start."""

    start: Tensor
    unit: Tensor
    shift: Tensor

    @classmethod
    def of(cls, start: Tensor, unit: Tensor, *, learns: bool) -> "LearnedParameter":
        shift = torch.zeros_like(start, dtype=torch.float32).requires_grad_(learns)
        return cls(start, unit, shift)

    def __call__(self) -> Tensor:
        return (self.start.float() + self.unit * self.shift).to(self.start.dtype)


def learned_norm(parameters: Mapping[str, Tensor]) -> dict[str, LearnedParameter]:
    """Gain and bias of one norm, by path.

    Both in root mean squares of the gain: what a normalized element is multiplied by.
    """
    gains = [value for path, value in parameters.items() if path.endswith(".weight")]
    unit = torch.cat([one.float().flatten() for one in gains]).square().mean().sqrt()
    return {
        path: LearnedParameter.of(value, unit, learns=True) for path, value in parameters.items()
    }

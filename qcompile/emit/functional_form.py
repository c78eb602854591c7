"""A leaf module as a function of its weight: ``nn.Conv2d`` as ``F.conv2d``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

Function = Callable[..., Tensor]
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d

CONVOLUTIONS: tuple[Function, ...] = (functional.conv1d, functional.conv2d, functional.conv3d)
TRANSPOSED: tuple[Function, ...] = (
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
)
"""By the number of spatial axes, from 1."""


@dataclass(frozen=True, slots=True)
class Padding:
    """``F.pad`` before the operation: ``amounts`` from the last axis on, two for each axis."""

    amounts: tuple[int, ...]
    mode: str


@dataclass(frozen=True, slots=True)
class FunctionalForm:
    """``function(x, weight, bias, *rest)``, without ``bias`` where there is none to take."""

    function: Function
    takes_bias: bool
    rest: tuple[object, ...] = ()
    padding: Padding | None = None


def functional_form(leaf: nn.Module) -> FunctionalForm | None:
    """Return the form of a leaf whose weight can be replaced, with all attributes that matter."""
    match leaf:
        case nn.Linear():
            return FunctionalForm(functional.linear, takes_bias=True)
        case nn.Embedding():
            rest = (
                leaf.padding_idx,
                leaf.max_norm,
                leaf.norm_type,
                leaf.scale_grad_by_freq,
                leaf.sparse,
            )
            return FunctionalForm(functional.embedding, takes_bias=False, rest=rest)
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return _convolution(leaf)
        case nn.ConvTranspose1d() | nn.ConvTranspose2d() | nn.ConvTranspose3d():
            return _transposed(leaf)
        case _:
            return None


def _convolution(leaf: Convolution) -> FunctionalForm:
    function = CONVOLUTIONS[len(leaf.kernel_size) - 1]
    if leaf.padding_mode == "zeros":
        rest = (leaf.stride, leaf.padding, leaf.dilation, leaf.groups)
        return FunctionalForm(function, takes_bias=True, rest=rest)
    padding = Padding(_amounts(leaf), leaf.padding_mode)
    rest = (leaf.stride, 0, leaf.dilation, leaf.groups)
    return FunctionalForm(function, takes_bias=True, rest=rest, padding=padding)


def _transposed(leaf: Transposed) -> FunctionalForm:
    function = TRANSPOSED[len(leaf.kernel_size) - 1]
    rest = (leaf.stride, leaf.padding, leaf.output_padding, leaf.groups, leaf.dilation)
    return FunctionalForm(function, takes_bias=True, rest=rest)


def _amounts(leaf: Convolution) -> tuple[int, ...]:
    """Give the padding as ``F.pad`` takes it; ``same`` has the odd one at the end."""
    pairs: list[tuple[int, int]] = []
    for axis, kernel in enumerate(leaf.kernel_size):
        match leaf.padding:
            case "same":
                total = leaf.dilation[axis] * (kernel - 1)
                pairs.append((total // 2, total - total // 2))
            case "valid":
                pairs.append((0, 0))
            case _:
                amount = cast("tuple[int, ...]", leaf.padding)[axis]
                pairs.append((amount, amount))
    return tuple(amount for pair in reversed(pairs) for amount in pair)

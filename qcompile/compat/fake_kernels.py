"""Results on fake tensors of operations whose own fake kernels refuse what the real ones take."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

Function = Callable[..., object]


def grouped_mm(
    mat_a: Tensor,
    mat_b: Tensor,
    *,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Products of groups of rows, of which torch's fake kernel knows bfloat16 only."""
    rows, columns = mat_a.shape[-2], mat_b.shape[-1]
    if mat_a.dim() == 2 and mat_b.dim() == 2 and offs is not None:
        shape = (offs.shape[0], rows, columns)
    elif mat_a.dim() == 3 and mat_b.dim() == 3:
        shape = (mat_a.shape[0], rows, columns)
    else:
        shape = (rows, columns)
    return mat_a.new_empty(shape, dtype=out_dtype or mat_a.dtype)


_PRIVATE_GROUPED_MM = cast("Function", torch._C._VariableFunctions._grouped_mm)  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]

STAND_INS: Mapping[Function, Function] = MappingProxyType({_PRIVATE_GROUPED_MM: grouped_mm})

RECORDED: Mapping[Function, Function] = MappingProxyType(
    {
        _PRIVATE_GROUPED_MM: functional.grouped_mm,
        torch.empty_like: torch.zeros_like,
        torch.empty: torch.zeros,
    }
)
"""What a graph is to say instead: a public name; zeros where a model leaves memory as it is, so
that the graph is a function of its inputs."""

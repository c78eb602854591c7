"""A weight of the reference graph, taken apart for kernels that have a layout of their own."""

from dataclasses import dataclass
from math import prod
from operator import attrgetter
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.quant.fake_quantize import dequantize_weight
from qcompile.quant.packing import unpack


@dataclass(frozen=True, slots=True, eq=False)
class StoredWeight:
    """``codes`` are uint8 as on disk, outputs first: ``[out, ...]``.

    ``scale`` and ``zero_point`` are float32 ``[out, groups]``: the weight is
    ``scale * (codes - zero_point)``.
    """

    codes: Tensor
    scale: Tensor
    zero_point: Tensor
    dtype: torch.dtype
    """That the float graph computes in."""

    def centred(self) -> Tensor:
        """``around_zero`` as int8, where that fits."""
        return self.around_zero().to(torch.int8)

    def centred_range(self) -> tuple[int, int]:
        wide = self.around_zero()
        return int(wide.amin()), int(wide.amax())

    def around_zero(self) -> Tensor:
        """int16 ``[out, ...]``; where there is one group."""
        shape = (-1, *[1] * (self.codes.dim() - 1))
        return self.codes.to(torch.int16) - self.zero_point[:, 0].to(torch.int16).view(shape)


def stored_weight(module: fx.GraphModule, node: fx.Node, output_axis: int) -> StoredWeight | None:
    """Read the arguments of a ``dequantize_weight``; ``None`` for any other node."""
    if node.target is not dequantize_weight:
        return None
    packed, scale, zero_point, bits, qmin, shape, axis, dtype = node.args
    size = tuple(cast("tuple[int, ...]", shape))
    if axis != output_axis:
        return None
    flat = unpack(_tensor(module, packed), cast("int", bits), prod(size))
    codes = flat.view(size).movedim(output_axis, 0).contiguous()
    outputs = codes.shape[0]
    scales = _per_output(_tensor(module, scale), outputs)
    if zero_point is None:
        zeros = torch.full_like(scales, -cast("int", qmin))
    else:
        zeros = _per_output(_tensor(module, zero_point).to(torch.float32), outputs)
    return StoredWeight(codes, scales, zeros, cast("torch.dtype", dtype))


def _per_output(values: Tensor, outputs: int) -> Tensor:
    columns = values.shape[1] if values.dim() == 2 else 1
    return values.reshape(-1, columns).expand(outputs, columns).contiguous()


def _tensor(module: fx.GraphModule, argument: object) -> Tensor:
    return cast("Tensor", attrgetter(str(cast("fx.Node", argument).target))(module))

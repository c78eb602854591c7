"""A quantized weight of any format."""

from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor

from qcompile.policy.number_format import IntFormat
from qcompile.policy.scheme import QuantSlot
from qcompile.quant.level_weight import LevelWeight, levels_from_tensors
from qcompile.quant.quantized_weight import QuantizedWeight, from_tensors

StoredWeight: TypeAlias = QuantizedWeight | LevelWeight


def stored_weight(
    tensors: Mapping[str, Tensor],
    prefix: str,
    spec: QuantSlot,
    shape: tuple[int, ...],
    output_axis: int,
) -> StoredWeight:
    """From the tensors of an artifact, or of a state."""
    read = from_tensors if isinstance(spec.format, IntFormat) else levels_from_tensors
    return read(tensors, prefix, spec, shape, output_axis)

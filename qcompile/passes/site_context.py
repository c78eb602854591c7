"""What the quantization of a site may look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.methods.tuning import Tuning
from qcompile.passes.padding import NO_PADDING, Padding
from qcompile.passes.sweep_streams import Streams
from qcompile.passes.sweep_values import Value
from qcompile.quant.activation_quantizer import ActivationQuantizer


@dataclass(frozen=True, slots=True, eq=False)
class SiteContext:
    module: fx.GraphModule
    device: torch.device
    streams: Streams
    fitted: int
    """Batches, from the first on, that the tuning's solvers look at."""
    tuning: Tuning
    generator: torch.Generator
    judging: int | None = None
    """How many of these, the last, take no part in a fit; ``None``: one in eight."""
    row_weights: Mapping[str, Sequence[Tensor]] = field(default_factory=dict[str, Sequence[Tensor]])
    """By node and batch, ``[1, rows]``: how much an error of a layer's output counts."""
    padding: Padding = NO_PADDING


def quantized_operand(
    streams: Streams,
    quantizers: Mapping[int, ActivationQuantizer],
    batch: int,
    position: int,
    used: fx.Node,
) -> Value:
    """One operand of a site, behind the prefix and the site's own quantizer of that position."""
    value = streams.quantized_values(used.name)[batch]
    quantizer = quantizers.get(position)
    return value if quantizer is None else quantizer(cast("Tensor", value))

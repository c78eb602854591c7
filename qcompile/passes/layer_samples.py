"""The samples that a layer's solvers fit: inputs behind the prefix, and wanted outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, fx

from qcompile.passes.layer_geometry import layer_bias, layer_geometry
from qcompile.passes.residual import Residual, residual
from qcompile.passes.site_context import SiteContext, quantized_operand
from qcompile.passes.sweep_node import occurrences
from qcompile.passes.sweep_values import Value
from qcompile.policy.core import TensorPlan
from qcompile.quant.activation_quantizer import ActivationQuantizer
from qcompile.quant.geometry import Dense, Geometry


@dataclass(frozen=True, slots=True, eq=False)
class LayerSamples:
    """By batch; nothing is computed before it is asked for."""

    context: SiteContext
    node: fx.Node
    quantizers: Mapping[int, ActivationQuantizer]
    """By argument position."""
    plain: Sequence[Value]
    """Float outputs."""
    geometry: Geometry | None
    bias: Tensor | None
    """As it is added to the output."""
    residual: Residual | None

    def __call__(self, batch: int) -> tuple[Tensor, Tensor]:
        wanted = cast("Tensor", self.plain[batch])
        if self.bias is not None:
            wanted = wanted - self.bias
        if self.residual is not None:
            streams, skip = self.context.streams, self.residual.skip
            plain = cast("Tensor", streams.float_values(skip)[batch])
            quantized = cast("Tensor", streams.quantized_values(skip)[batch])
            if plain.shape == wanted.shape:
                geometry = self.geometry or Dense()
                wanted = wanted + self.residual.correction(plain, quantized, geometry)
        return self._input(batch), wanted

    @property
    def importance(self) -> Tensor | None:
        """Outputs count in the choice of a fit as much as they reach the sum."""
        if self.residual is None or self.residual.gain is None:
            return None
        return self.residual.gain.square()

    def _input(self, batch: int) -> Tensor:
        """The first operand that is no parameter."""
        used = enumerate(occurrences(self.node))
        position, first = next((i, node) for i, node in used if node.op != "get_attr")
        streams, quantizers = self.context.streams, self.quantizers
        return cast("Tensor", quantized_operand(streams, quantizers, batch, position, first))


def layer_samples(
    context: SiteContext,
    node: fx.Node,
    plan: TensorPlan,
    quantizers: Mapping[int, ActivationQuantizer],
    plain: Sequence[Value],
) -> LayerSamples:
    """Of a node with a planned weight; ``plain`` are its float outputs."""
    streams, module = context.streams, context.module
    geometry = layer_geometry(module, node, plan.output_axis)
    found: Residual | None = None
    if context.tuning.target == "residual" and geometry is not None:

        def is_ready(name: str) -> bool:
            return name in streams.live and not streams.is_shared(name)

        found = residual(module, node, geometry, is_ready)
    bias = layer_bias(module, node, geometry, context.device)
    return LayerSamples(context, node, quantizers, plain, geometry, bias, found)

"""The samples that a layer's solvers fit: inputs behind the prefix, and wanted outputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, fx

from qcompile.passes.layer_form import LayerForm, layer_form
from qcompile.passes.residual import Residual, residual
from qcompile.passes.site_context import SiteContext, quantized_operand
from qcompile.passes.sweep_node import occurrences
from qcompile.passes.sweep_values import Value
from qcompile.quant.activation_quantizer import ActivationQuantizer


@dataclass(frozen=True, slots=True, eq=False)
class LayerSamples:
    """By batch; nothing is computed before it is asked for."""

    context: SiteContext
    node: fx.Node
    quantizers: Mapping[int, ActivationQuantizer]
    """By argument position."""
    plain: Sequence[Value]
    """Float outputs."""
    form: LayerForm
    residual: Residual | None

    def __call__(self, batch: int) -> tuple[Tensor, Tensor]:
        wanted = cast("Tensor", self.plain[batch])
        if self.form.bias is not None:
            wanted = wanted - self.form.along_outputs(self.form.bias.detach().to(wanted.device))
        if self.residual is not None:
            streams, skip = self.context.streams, self.residual.skip
            plain = cast("Tensor", streams.float_values(skip)[batch])
            quantized = cast("Tensor", streams.quantized_values(skip)[batch])
            if plain.shape == wanted.shape:
                wanted = wanted + self.residual.correction(plain, quantized, self.form)
        return self._input(batch), wanted

    @property
    def plain_input(self) -> Callable[[int], Tensor] | None:
        """By batch: what the float output is made of; ``None`` where more than that is wanted."""
        return None if self.residual is not None else self._plain_input

    def _plain_input(self, batch: int) -> Tensor:
        first = occurrences(self.node)[self.form.input]
        return cast("Tensor", self.context.streams.float_values(first.name)[batch])

    @property
    def importance(self) -> Tensor | None:
        """Outputs count in the choice of a fit as much as they reach the sum."""
        if self.residual is None or self.residual.gain is None:
            return None
        return self.residual.gain.double().square()

    def _input(self, batch: int) -> Tensor:
        place = self.form.input
        first = occurrences(self.node)[place]
        streams, quantizers = self.context.streams, self.quantizers
        return cast("Tensor", quantized_operand(streams, quantizers, batch, place, first))


def layer_samples(
    context: SiteContext,
    node: fx.Node,
    outputs: int,
    quantizers: Mapping[int, ActivationQuantizer],
    plain: Sequence[Value],
) -> LayerSamples | None:
    """Of a node whose weight has ``outputs`` rows; ``None`` where it is no product of rows.

    ``plain`` are its float outputs; without them there is nothing to fit.
    """
    form = layer_form(context.module, node)
    if form is None or not plain:
        return None
    found: Residual | None = None
    if context.tuning.target == "residual":
        streams = context.streams

        def is_ready(name: str) -> bool:
            return name in streams.live and not streams.is_shared(name)

        found = residual(context.module, node, form, outputs, is_ready)
    return LayerSamples(context, node, quantizers, plain, form, found)

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
from qcompile.quant.geometry import Dense


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
        given = self._own(self._input(batch), self._source.name, batch)
        return given, self._own(wanted, self.node.name, batch)

    @property
    def plain_input(self) -> Callable[[int], Tensor] | None:
        """By batch: what the float output is made of; ``None`` where more than that is wanted."""
        return None if self.residual is not None else self._plain_input

    def _plain_input(self, batch: int) -> Tensor:
        name = self._source.name
        value = cast("Tensor", self.context.streams.float_values(name)[batch])
        return self._own(value, name, batch)

    @property
    def _source(self) -> fx.Node:
        """Whose value is multiplied."""
        return occurrences(self.node)[self.form.input]

    def _own(self, value: Tensor, name: str, batch: int) -> Tensor:
        """Rows that are no padding; an image has none."""
        padding = self.context.padding
        return padding.kept_rows(value, name, batch) if self._has_rows else value

    @property
    def _has_rows(self) -> bool:
        return isinstance(self.form.geometry, Dense)

    @property
    def importance(self) -> Tensor | None:
        """Outputs count in the choice of a fit as much as they reach the sum."""
        if self.residual is None or self.residual.gain is None:
            return None
        return self.residual.gain.double().square()

    def _input(self, batch: int) -> Tensor:
        streams, quantizers = self.context.streams, self.quantizers
        made = quantized_operand(streams, quantizers, batch, self.form.input, self._source)
        return cast("Tensor", made)


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

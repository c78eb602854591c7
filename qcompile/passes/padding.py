"""Positions of a batch that are none of its samples' own: of a text shorter than the longest.

Where a value has its positions is found in the graph, see ``capture.positions``. What has none,
such as the value of a class token, is left as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from qcompile.capture.positions import Layout


@dataclass(frozen=True, slots=True, eq=False)
class Padding:
    masks: tuple[Tensor, ...] = ()
    """By batch ``bool[samples, positions]``, true for what is a sample's own; none: no padding."""
    layouts: Mapping[str, Layout] = field(default_factory=dict[str, Layout])
    """Of the values that have positions, by the name of the node."""

    def kept(self, value: Tensor, name: str, batch: int) -> Tensor:
        """Own positions alone, of one sample; every axis stays in its place."""
        layout = self._layout(name)
        if layout is None:
            return value
        own = self._own(value, layout, batch)
        if layout.is_merged:
            rows = own.t() if layout.positions_first else own
            axis = layout.samples
            return value.movedim(axis, 0)[rows.flatten()].movedim(0, axis)
        axes = (layout.samples, layout.positions)
        if layout.looked_at is not None:
            value = _zeroed(value, own, layout.samples, layout.looked_at)
        return value.movedim(axes, (0, 1))[own][None].movedim((0, 1), axes)

    def kept_rows(self, value: Tensor, name: str, batch: int) -> Tensor:
        """The same of what a layer multiplies row by row: its last axis is none of positions."""
        return self.kept(value, name, batch) if self.has_rows(value, name) else value

    def kept_weights(self, weights: Tensor, value: Tensor, name: str, batch: int) -> Tensor:
        """Of ``weights`` ``[1, n]``, one for each row of ``value``, those of ``kept_rows``."""
        if not self.has_rows(value, name):
            return weights
        return self.kept(weights.view(*value.shape[:-1], 1), name, batch).reshape(1, -1)

    def silenced(self, value: Tensor, name: str, batch: int) -> Tensor:
        """Zero in all other positions; the shape stays."""
        layout = self._layout(name)
        if layout is None:
            return value
        own = self._own(value, layout, batch)
        if layout.is_merged:
            rows = (own.t() if layout.positions_first else own).flatten()
            sizes = [1] * value.dim()
            sizes[layout.samples] = len(rows)
            return torch.where(rows.view(sizes), value, value.new_zeros(()))
        if layout.looked_at is not None:
            value = _zeroed(value, own, layout.samples, layout.looked_at)
        return _zeroed(value, own, layout.samples, layout.positions)

    def has_rows(self, value: Tensor, name: str) -> bool:
        layout = self._layout(name)
        last = value.dim() - 1
        return layout is not None and last not in (layout.samples, layout.positions)

    def shares(self, axis: int | None, value: Tensor, name: str) -> bool:
        """Whether ``axis`` of ``value`` is that of samples or of positions."""
        layout = self._layout(name)
        if layout is None or axis is None:
            return False
        return axis % value.dim() in (layout.samples, layout.positions)

    def first(self, batches: int) -> "Padding":
        return replace(self, masks=self.masks[:batches])

    def of_samples(self, batch: int, part: int, size: int | None) -> "Padding":
        """Of one part of a batch of ``size`` samples each; ``None``: of all of it."""
        if not self.masks:
            return self
        mask = self.masks[batch]
        taken = mask if size is None else mask[part * size : (part + 1) * size]
        return replace(self, masks=(taken,))

    def _layout(self, name: str) -> Layout | None:
        return self.layouts.get(name) if self.masks else None

    def _own(self, value: Tensor, layout: Layout, batch: int) -> Tensor:
        own = self.masks[batch].to(value.device)
        return own if layout.repeats == 1 else own.repeat_interleave(layout.repeats, 0)


def _zeroed(value: Tensor, own: Tensor, samples: int, positions: int) -> Tensor:
    """Where ``own`` ``[samples, positions]`` does not hold, whatever is there."""
    sizes = [1] * value.dim()
    sizes[samples], sizes[positions] = own.shape
    mask = own if samples < positions else own.t()
    return torch.where(mask.reshape(sizes), value, value.new_zeros(()))


NO_PADDING = Padding()

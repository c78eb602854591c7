"""Images and their mirror images in one batch: twice the samples of the same data.

They stay side by side, so that no image is fitted whose mirror image judges the fit.
"""

import torch
from torch import Tensor

from qcompile.data.batches import Batch, map_tensors, named_tensors
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.methods.axes import Flip

RANK = 4
"""``[samples, channels, height, width]``"""
NARROW = 4
"""A last axis of no more elements holds channels."""


def drawn_a_batch(size: int, flip: Flip | None) -> int:
    """Samples of the data in a batch of ``size`` rows: their mirror images are half of it."""
    return size if flip is None else max(size // 2, 1)  # an odd size is refused later


def with_flips(batch: Batch, flip: Flip) -> Batch:
    """Twice the rows; what is no image is there twice."""
    axis = -1 if flip == "horizontal" else -2
    return map_tensors(batch, lambda x: torch.cat([x, x.flip(axis) if _is_image(x) else x]))


def unfit_flips(reference: str, inputs: Batch, size: int) -> Diagnostic | None:
    """QR718: there is no image to be flipped, or several that might be, or half of one."""
    named = named_tensors(inputs)
    images = sum(_is_image(x) for _, x in named)
    shapes = ", ".join(f"`{name}` {[*x.shape]}" for name, x in named)
    if images == 1:
        if size % 2 == 0:
            return None
        what = f"an image and its mirror image do not divide batches of {size}"
        return Diagnostic(Code.FLIP, what, subject=reference, help="write an even `batch`")
    what = "no images" if not images else "more than one input of the form of images"
    return Diagnostic(
        Code.FLIP,
        f"`{reference}` has {what} to flip: {shapes}",
        subject=reference,
        help="give images as numbers [samples, channels, height, width] in one input, or leave "
        "`flip` out",
    )


def _is_image(x: Tensor) -> bool:
    return x.is_floating_point() and x.dim() == RANK and x.shape[-1] > NARROW

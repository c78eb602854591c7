"""QR904: values that are not finite, found where they enter or leave a unit."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.passes.sweep_values import Value, tensors_in


def check_finite(
    values: Sequence[Value],
    batch_sizes: Sequence[int],
    *,
    unit: str,
    stream: str,
    masks_allowed: bool,
) -> None:
    """Raise QR904 at the first bad sample.

    ``masks_allowed``: infinities are let through (a side value may be an attention mask of
    ``-inf``), NaN is not.
    """
    before = 0
    for value, size in zip(values, batch_sizes, strict=True):
        for tensor in tensors_in(value):
            bad = _bad(tensor, masks_allowed)
            if bad is not None and bool(bad.any()):
                sample = before + _first_row(bad, size)
                raise CompileError([non_finite_block(unit, sample, stream)])
        before += size


def non_finite_block(unit: str, sample: int, stream: str) -> Diagnostic:
    """QR904: a value at the edge of a unit is NaN or infinite."""
    help_texts = {
        "float": "leave the sample out, or run the model in float32: it is not finite unquantized",
        "quantized": "give the sites of this unit more bits, or leave them in float with `skip`",
    }
    return Diagnostic(
        code=Code.NON_FINITE_BLOCK,
        message=f"unit `{unit}` meets a value that is not finite in the {stream} model",
        subject=f"calibration sample {sample}",
        help=help_texts[stream],
    )


def _bad(tensor: Tensor, masks_allowed: bool) -> Tensor | None:
    if not tensor.is_floating_point() or math.isfinite(float(tensor.sum())):
        return None  # what is not finite leaves no finite sum, and a sum takes no memory
    return torch.isnan(tensor) if masks_allowed else ~torch.isfinite(tensor)


def _first_row(bad: Tensor, batch_size: int) -> int:
    """Index within the batch; a value that is not batch first is laid at its first sample."""
    if bad.dim() == 0 or bad.shape[0] != batch_size:
        return 0
    return int(bad.flatten(1).any(dim=1).nonzero()[0]) if bad.dim() > 1 else int(bad.nonzero()[0])

"""How much the network's output depends on each element of a stretch's output.

Of the divergence ``KL(softmax(float) || softmax(z))`` of the network's output ``z``, for which no
label is needed. At the float point its gradient is zero, so the first derivative is taken where
the quantized stretch is, as BRECQ's code does (2102.05426).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from qcompile.passes.padding import NO_PADDING, Padding
from qcompile.passes.tail import Tail
from qcompile.quant.losses.prediction import divergence

SMOOTH = 20.0
"""Temperature of APHQ-ViT and FIMA-Q: all classes count, not the likeliest alone."""
STEP = 1e-3
"""Of the difference quotient, in root mean squares of the output: 1e-6 absolute, as in APHQ-ViT's
code, is within the rounding errors of float32."""


@torch.no_grad()
def gradients(
    tail: Tail, at: Sequence[Tensor], plain: Sequence[Tensor], padding: Padding = NO_PADDING
) -> list[Tensor]:
    """First derivative by each element at ``at``, of each sample alone; ``plain`` is float."""
    found: list[Tensor] = []
    for number, value in enumerate(at):
        wanted = tail(plain[number], number, plain=True)
        own = OwnOutputs(tail, padding, number)
        found.append(_gradient(value, wanted, 1.0, own, partial(tail, number=number)))
    return found


@torch.no_grad()
def curvatures(tail: Tail, plain: Sequence[Tensor], padding: Padding = NO_PADDING) -> list[Tensor]:
    """``|H 1|`` by each element, averaged over samples: the Hessian at the float point.

    One row, ``[1, ...]``, for all batches; for each batch its own where their shapes differ.
    """
    rows = [_differences(tail, value, number, padding) for number, value in enumerate(plain)]
    if len({row.shape for row in rows}) > 1:
        return rows
    weights = torch.tensor([len(value) for value in plain], dtype=rows[0].dtype)
    mean = torch.einsum("n,n...->...", weights.to(rows[0].device), torch.stack(rows))
    return [mean / weights.sum()] * len(rows)


@dataclass(frozen=True, slots=True, eq=False)
class OwnOutputs:
    """Outputs of the network in one batch, without padding."""

    tail: Tail
    padding: Padding
    number: int

    def __call__(self, outputs: Tensor) -> Tensor:
        if not self.padding.masks:
            return outputs
        return self.padding.kept(outputs, self.tail.end, self.number)


def _differences(tail: Tail, value: Tensor, number: int, padding: Padding) -> Tensor:
    seen = padding.kept(value, tail.start, number) if padding.masks else value
    step = max(STEP * float(seen.float().square().mean().sqrt()), 1e-12)
    run, own = partial(tail, number=number, plain=True), OwnOutputs(tail, padding, number)
    wanted = run(value)
    ahead = _gradient(value + step, wanted, SMOOTH, own, run)
    behind = _gradient(value - step, wanted, SMOOTH, own, run)
    rows = (ahead - behind).abs() / (2 * step)
    return (
        _mean_of_own(rows, tail, number, padding) if padding.masks else rows.mean(0, keepdim=True)
    )


def _mean_of_own(rows: Tensor, tail: Tail, number: int, padding: Padding) -> Tensor:
    """Of a position over the samples that have it."""
    own, count = (
        padding.silenced(value, tail.start, number).sum(0, keepdim=True)
        for value in (rows, torch.ones_like(rows))
    )
    return own / count.clamp(min=1)


def _gradient(
    value: Tensor,
    wanted: Tensor,
    temperature: float,
    own: OwnOutputs,
    run: Callable[[Tensor], Tensor],
) -> Tensor:
    """Of the divergence, summed so that a sample's does not depend on its batch."""
    with torch.enable_grad():
        leaf = value.detach().requires_grad_()
        total = divergence(own(run(leaf)), own(wanted.detach()), temperature).sum()
        (found,) = torch.autograd.grad(total, leaf)
    return found.float()

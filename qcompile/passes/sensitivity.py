"""How much the network's output depends on each element of a stretch's output.

Of the divergence ``KL(softmax(float) || softmax(z))`` of the network's output ``z``, for which no
label is needed. At the float point its gradient is zero, so the first derivative is taken where
the quantized stretch is, as BRECQ's code does (2102.05426).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from qcompile.passes.tail import Tail
from qcompile.quant.losses.prediction import divergence

SMOOTH = 20.0
"""Temperature of APHQ-ViT and FIMA-Q: all classes count, not the likeliest alone."""
STEP = 1e-3
"""Of the difference quotient, in root mean squares of the output: 1e-6 absolute, as in APHQ-ViT's
code, is within the rounding errors of float32."""


@torch.no_grad()
def gradients(tail: Tail, at: Sequence[Tensor], plain: Sequence[Tensor]) -> list[Tensor]:
    """First derivative by each element at ``at``, of each sample alone; ``plain`` is float."""
    found: list[Tensor] = []
    for number, value in enumerate(at):
        wanted = tail(plain[number], number, plain=True)
        found.append(_gradient(value, wanted, 1.0, partial(tail, number=number)))
    return found


@torch.no_grad()
def curvatures(tail: Tail, plain: Sequence[Tensor]) -> list[Tensor]:
    """``|H 1|`` by each element, averaged over samples: the Hessian at the float point.

    One row, ``[1, ...]``, for all batches; for each batch its own where their shapes differ.
    """
    rows = [_differences(tail, value, number) for number, value in enumerate(plain)]
    if len({row.shape for row in rows}) > 1:
        return rows
    weights = torch.tensor([len(value) for value in plain], dtype=rows[0].dtype)
    mean = torch.einsum("n,n...->...", weights.to(rows[0].device), torch.stack(rows))
    return [mean / weights.sum()] * len(rows)


def _differences(tail: Tail, value: Tensor, number: int) -> Tensor:
    step = max(STEP * float(value.float().square().mean().sqrt()), 1e-12)
    run = partial(tail, number=number, plain=True)
    wanted = run(value)
    ahead = _gradient(value + step, wanted, SMOOTH, run)
    behind = _gradient(value - step, wanted, SMOOTH, run)
    return ((ahead - behind).abs() / (2 * step)).mean(0, keepdim=True)


def _gradient(
    value: Tensor, wanted: Tensor, temperature: float, run: Callable[[Tensor], Tensor]
) -> Tensor:
    """Of the divergence, summed so that a sample's does not depend on its batch."""
    with torch.enable_grad():
        leaf = value.detach().requires_grad_()
        total = divergence(run(leaf), wanted.detach(), temperature).sum()
        (found,) = torch.autograd.grad(total, leaf)
    return found.float()

"""Whether a lowered model computes what the reference computes, and leaves its inputs alone.

Both are needed: a kernel that writes its sum over one of its inputs returns the right numbers the
first time (seen with Inductor of torch 2.13, and with oneDNN's convolution).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.emit.lower.fresh_inputs import fresh_inputs
from qcompile.targets.target import Target

BATCHES = (2, 3)
SEED = 20_260


@dataclass(frozen=True, slots=True)
class Agreement:
    batches: tuple[int, ...] = ()
    difference: float = 0.0
    problems: tuple[Diagnostic, ...] = ()


def agreement(reference: fx.GraphModule, lowered: fx.GraphModule, target: Target) -> Agreement:
    """QR930 where outputs differ by more than the target allows, or an input was changed."""
    generator = torch.Generator().manual_seed(SEED)
    batches: list[int] = []
    worst = 0.0
    for batch in BATCHES:
        inputs = fresh_inputs(reference.graph, batch, generator)
        expected = None if inputs is None else _outputs(reference, inputs)
        if inputs is None or expected is None:
            continue
        difference, problem = compare(expected, lowered, inputs, target)
        if problem is not None:
            return Agreement(tuple(batches), difference, (problem,))
        batches.append(batch)
        worst = max(worst, difference)
    return Agreement(tuple(batches), worst)


def compare(
    expected: Sequence[Tensor], lowered: fx.GraphModule, inputs: Sequence[Tensor], target: Target
) -> tuple[float, Diagnostic | None]:
    """Run ``lowered`` twice on the same ``inputs``: the second time shows what the first wrote."""
    given = [value.clone() for value in inputs]
    worst = 0.0
    for _ in range(2):
        with torch.no_grad():
            found = list(_tensors(lowered.forward(*given)))
        changed = next((i for i, v in enumerate(given) if not torch.equal(v, inputs[i])), None)
        if changed is not None:
            return worst, changes_its_input(target, lowered, changed)
        worst = max(worst, *(relative(a, b) for a, b in zip(found, expected, strict=True)), 0.0)
    return worst, disagrees(target, worst) if not worst <= target.agreement else None


def relative(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference over that of ``expected``; ``inf`` for other forms."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return math.inf
    if not expected.is_floating_point():
        return 0.0 if torch.equal(found, expected) else math.inf
    ours, theirs = found.double(), expected.double()
    same = ours == theirs  # infinities, which have no difference
    squares = torch.where(same, 0.0, ours - theirs).square().sum().item()
    size = torch.where(theirs.isfinite(), theirs, 0.0).square().sum().item()
    if squares == 0:
        return 0.0
    return math.sqrt(squares / size) if size else math.inf


def _outputs(module: fx.GraphModule, inputs: Sequence[Tensor]) -> list[Tensor] | None:
    """``None`` where the model cannot take what was made up."""
    try:
        with torch.no_grad():
            return list(_tensors(module.forward(*(value.clone() for value in inputs))))
    except (RuntimeError, IndexError, ValueError):
        return None


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def disagrees(target: Target, difference: float) -> Diagnostic:
    """QR930."""
    return Diagnostic(
        Code.KERNELS_DISAGREE,
        f"the kernels of `{target.name}` differ from the simulation by {difference:.2g} of the "
        f"output, more than {target.agreement:g}",
        subject=target.name,
        help="load for `simulate`, and report this with the versions of torch and qcompile",
    )


def changes_its_input(target: Target, lowered: fx.GraphModule, position: int) -> Diagnostic:
    """QR930."""
    name = lowered.graph.find_nodes(op="placeholder")[position].name
    return Diagnostic(
        Code.KERNELS_DISAGREE,
        f"the kernels of `{target.name}` overwrite the input `{name}`",
        subject=target.name,
        help="load for `simulate`, and report this with the versions of torch and qcompile",
    )

"""Whether a lowered model computes what the reference computes, and leaves its inputs alone.

Both are needed: a kernel that writes its sum over one of its inputs returns the right numbers the
first time (seen with Inductor of torch 2.13, and with oneDNN's convolution).

Each kernel, and each exact layer of the simulation, is judged on the values that the float
reference has at its place. The whole model could not be: sums in another order move a few numbers
over the edge between two codes, such a step moves more of them in the next layer, and behind some
dozen layers two correct computations differ by a good part of the quantization error itself. It is
compared with the simulation, whose sums are as exact as those of integer kernels, and that
difference is reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.emit.lower.difference import larger, tensors_in, worst
from qcompile.emit.lower.fresh_inputs import fresh_inputs
from qcompile.emit.lower.lowering import Lowering
from qcompile.emit.lower.replay import Forced, Recorded, record
from qcompile.targets.target import Target

BATCHES = (2, 3)
SEED = 20_260
OUTPUT = "the output"


@dataclass(frozen=True, slots=True)
class Agreement:
    batches: tuple[int, ...] = ()
    difference: float = 0.0
    """Of the outputs."""
    layer_difference: float = 0.0
    """Of the layer that differs most when all of them read the reference's values."""
    problems: tuple[Diagnostic, ...] = ()


def agreement(
    reference: fx.GraphModule, simulated: fx.GraphModule, lowering: Lowering, target: Target
) -> Agreement:
    """QR930 where a layer differs by more than the target allows, or an input was changed.

    ``reference``, and the simulation of it, are on the device of the lowering.
    """
    lowered = lowering.module
    generator = torch.Generator().manual_seed(SEED)
    found = Agreement()
    for batch in BATCHES:
        inputs = fresh_inputs(reference.graph, batch, generator)
        if inputs is not None:
            inputs = tuple(value.to(lowering.device) for value in inputs)
        pair = (lowered, simulated)
        recorded = None if inputs is None else _recorded(reference, pair, inputs)
        if inputs is None or recorded is None:
            continue
        with torch.no_grad():
            expected = tuple(tensors_in(simulated(*(value.clone() for value in inputs))))
        here = compare(recorded, lowered, inputs, target, expected)
        name, layer = _layers(recorded, simulated, inputs)
        if not layer <= target.agreement:
            problem = disagrees(
                "the simulation differs from the float reference", target, name, layer
            )
            here = replace(here, problems=(*here.problems, problem))
        found = Agreement(
            (*found.batches, batch),
            larger(found.difference, here.difference),
            larger(found.layer_difference, here.layer_difference),
            here.problems,
        )
        if found.problems:
            break
    return found


def compare(
    recorded: Recorded,
    lowered: fx.GraphModule,
    inputs: Sequence[Tensor],
    target: Target,
    simulated: Sequence[Tensor] | None = None,
) -> Agreement:
    """Run ``lowered`` twice on the same ``inputs``: the second time shows what the first wrote.

    ``simulated`` are the outputs of the simulation, if that is not the reference.
    """
    kernels = f"the kernels of `{target.name}` differ from"
    given = [value.clone() for value in inputs]
    first: list[Tensor] = []
    for _ in range(2):
        with torch.no_grad():
            found = [value.clone() for value in tensors_in(lowered.forward(*given))]
        changed = next((i for i, v in enumerate(given) if not torch.equal(v, inputs[i])), None)
        if changed is not None:
            return Agreement(problems=(changes_its_input(target, lowered, changed),))
        first = first or found
        if not (again := worst(found, first)) <= target.agreement:
            return Agreement(
                problems=(disagrees(f"{kernels} their own first result", target, OUTPUT, again),)
            )
    name, layer = _layers(recorded, lowered, given)
    is_close = layer <= target.agreement
    problems = (
        () if is_close else (disagrees(f"{kernels} the float reference", target, name, layer),)
    )
    expected = recorded.outputs if simulated is None else simulated
    return Agreement((), worst(first, expected), layer, problems)


def _layers(
    recorded: Recorded, lowered: fx.GraphModule, inputs: Sequence[Tensor]
) -> tuple[str, float]:
    """The layer that differs most on the values of the reference, and by how much."""
    layers = Forced(lowered, recorded.values)
    with torch.no_grad():
        output = list(tensors_in(layers.run(*(value.clone() for value in inputs))))
    layers.see(OUTPUT, worst(output, recorded.outputs))
    return layers.worst


def _recorded(
    reference: fx.GraphModule, lowered: Sequence[fx.GraphModule], inputs: Sequence[Tensor]
) -> Recorded | None:
    """``None`` where the model cannot take what was made up."""
    try:
        return record(reference, lowered, inputs)
    except (RuntimeError, IndexError, ValueError):
        return None


def disagrees(what: str, target: Target, node: str, difference: float) -> Diagnostic:
    """QR930."""
    return Diagnostic(
        Code.KERNELS_DISAGREE,
        f"{what} by {difference:.2g} at `{node}`, more than {target.agreement:g}",
        subject=target.name,
        help="report this with the versions of torch and qcompile",
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

"""The padding of calibration samples: their masks, and where values have what these mask."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from qcompile.capture.main_output import main_output
from qcompile.capture.node_meta import facts
from qcompile.capture.positions import Layout, layouts
from qcompile.capture.unit import Unit
from qcompile.data.batches import split_off
from qcompile.data.masks import captured_without, mask_of, names, unfit_mask
from qcompile.data.sampling import CalibrationSet
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.bind import Bound
from qcompile.methods.tuning import Tuning
from qcompile.passes.layer_form import layer_form
from qcompile.passes.padding import NO_PADDING, Padding
from qcompile.passes.padding_probe import SAMPLES, Probed, probe
from qcompile.quant.geometry import Convolution
from qcompile.quant.losses.registry import loss


def masked(
    reference: str, selected: CalibrationSet, name: str | None, bound: Bound
) -> tuple[CalibrationSet, list[Tensor]]:
    """The masks by batch, and batches without them where the model does not take them.

    Raises ``CompileError`` (QR719).
    """
    if name is None:
        return selected, []
    found = [mask_of(batch, name, reference) for batch in selected.batches]
    problems = [one for one in found if isinstance(one, Diagnostic)]
    masks = [one for one in found if isinstance(one, Tensor)]
    if name not in bound.expected and names(bound.model, name):
        problems.append(captured_without(reference, name))
    if problems:
        raise CompileError(problems[:1])
    if name not in bound.expected:
        kept = tuple(split_off(batch, name)[0] for batch in selected.batches)
        selected = replace(selected, batches=kept)
    return selected, masks


def padding(
    reference: str,
    name: str | None,
    bound: Bound,
    batches: Sequence[Mapping[str, Tensor]],
    masks: Sequence[Tensor],
) -> Padding:
    """``batches`` are by placeholder. Raises ``CompileError`` (QR719)."""
    if name is None or not masks or all(bool(mask.all()) for mask in masks):
        return NO_PADDING
    refused = _refused(reference, name, bound)
    if refused is not None:
        raise CompileError([refused])
    most = max(range(len(masks)), key=lambda number: int((~masks[number]).sum()))
    inputs = _of_positions(bound, batches[most], masks[most], name)
    seeming = layouts(bound.graph, inputs, bound.seen.captured.free_axes)
    others = [key for key in inputs if _target(bound, key) != name]
    samples = SAMPLES if _takes_fewer(bound, inputs) else len(masks[most])
    found = probe(bound.graph, batches[most], masks[most], seeming, others, samples)
    known = {value: seeming[value] for value in found.padded - found.misplaced}
    problem = next(_problems(reference, name, bound, found, seeming), None)
    if problem is not None:
        raise CompileError([problem])
    return Padding(tuple(masks), known)


def _of_positions(
    bound: Bound, batch: Mapping[str, Tensor], mask: Tensor, name: str
) -> tuple[str, ...]:
    """Inputs ``[samples, positions, ...]`` whose positions are those of the mask.

    Their length cannot be another than its: a decoder may have as many in this batch by chance.
    Two axes of floats may be something else.
    """
    found = [
        key
        for key, value in batch.items()
        if value.shape[:2] == mask.shape and (value.dim() > 2 or not value.is_floating_point())
    ]
    read = {
        n.name: str(n.target) for n in bound.graph.graph.find_nodes(op="placeholder") if n.users
    }
    others = [key for key in found if key in read and read[key] != name]
    own = [key for key in found if key in read and read[key] == name]
    if len(others) < 2:
        return (*own, *others)
    tied = [key for key in others if _is_tied(bound, batch, key)]
    return (*own, *(tied or others[:1]))


def _is_tied(bound: Bound, batch: Mapping[str, Tensor], key: str) -> bool:
    """Whether the model takes no other length of this input alone; tried on few samples."""
    samples = 1 if _takes_fewer(bound, batch) else len(batch[key])
    few = {name: value[:samples].clone() for name, value in batch.items()}
    longer = {**few, key: torch.cat([few[key], few[key][:, -1:]], 1)}
    shapes = {_target(bound, name): tuple(value.shape) for name, value in longer.items()}
    if bound.seen.captured.size_problem(shapes) is not None:
        return True
    nodes = bound.graph.graph.find_nodes(op="placeholder")
    given = [longer.get(node.name, node.args[0] if node.args else None) for node in nodes]
    try:
        with torch.no_grad():
            bound.graph.forward(*given)
    except (RuntimeError, IndexError, ValueError):
        return True
    return False


def _takes_fewer(bound: Bound, names: Collection[str]) -> bool:
    """Whether the graph holds for another number of samples than the example's."""
    free = bound.seen.captured.free_axes
    return all(0 in free.get(_target(bound, name), ()) for name in names)


def _target(bound: Bound, name: str) -> str:
    """The model's name of a placeholder."""
    nodes = bound.graph.graph.find_nodes(op="placeholder")
    return next(str(node.target) for node in nodes if node.name == name)


def _refused(reference: str, name: str, bound: Bound) -> Diagnostic | None:
    tunings = (bound.recipe.tuning, *(one.tuning for one in bound.tunes))
    augment = next((t.augment.name for t in tunings if t.augment.name != "none"), None)
    if augment is None:
        return None
    what = f"is masked by `{name}`, and `augment = {augment}` would mix what is masked into it"
    return unfit_mask(reference, name, what, "leave one of them out")


def _problems(
    reference: str, name: str, bound: Bound, found: Probed, seeming: Mapping[str, Layout]
) -> Iterator[Diagnostic]:
    nodes = {node.name: node for node in bound.graph.graph.nodes}
    for site in bound.planned:
        node = nodes[site.node]
        form = layer_form(bound.graph, node) if site.has_weight else None
        is_window = form is not None and isinstance(form.geometry, Convolution)
        if is_window and node.all_input_nodes[0].name in found.padded & seeming.keys():
            yield mixed_positions(reference, name, site.path)
    looked_at = [*_looked_at(bound)]
    for value, site in looked_at:
        if value in found.misplaced:
            yield misplaced_padding(reference, name, site)
    if not any(value in found.padded for value, _ in looked_at):
        what = f"is masked by `{name}`, and nothing that is quantized has padding"
        yield unfit_mask(reference, name, what, "leave `mask` out")


def _looked_at(bound: Bound) -> Iterator[tuple[str, str]]:
    """Values that decide something, each with what is to be told of it."""
    nodes = {node.name: node for node in bound.graph.graph.nodes}
    for site in bound.planned:
        node = nodes[site.node]
        used = [one.name for one in node.all_input_nodes if one.op != "get_attr"]
        quantized = [one.operand for one in site.tensors if one.operand is not None]
        for value in (*used[:1], *quantized, node.name):
            yield value, site.path
    for item in bound.transforms:
        if item.value is not None:
            yield str(item.value), item.name
    tunings = (bound.recipe.tuning, *(one.tuning for one in bound.tunes))
    for value in _learned_from(bound, tunings):
        yield value, value


def _learned_from(bound: Bound, tunings: Sequence[Tuning]) -> Iterator[str]:
    """Values beside those of sites."""
    if any(tuning.learns_whole for tuning in tunings):
        planned = {site.node for site in bound.planned if site.has_weight}
        for unit in bound.units:
            if planned & set(unit.nodes):
                yield from _main_output(bound, unit)
    sees_network = any(
        tuning.weighs_rows or any(loss(term.name).sees != "output" for term in tuning.loss)
        for tuning in tunings
        if tuning.solvers
    )
    if sees_network or bound.is_open:
        (output,) = bound.graph.graph.find_nodes(op="output")
        end = main_output(output.args[0])
        yield from () if end is None else (end.name,)


def _main_output(bound: Bound, unit: Unit) -> Iterator[str]:
    """The last one of floats: what the unit is learned from."""
    inside = [n for n in bound.graph.graph.nodes if n.name in unit.outputs and facts(n).is_float]
    yield from (node.name for node in inside[-1:])


def mixed_positions(reference: str, name: str, site: str) -> Diagnostic:
    """QR719: a window holds positions of a sample and padding."""
    return unfit_mask(
        reference,
        name,
        f"is masked by `{name}`, and the convolution `{site}` mixes positions",
        "skip the layer, or leave `mask` out",
    )


def misplaced_padding(reference: str, name: str, site: str) -> Diagnostic:
    """QR719: what is made of a sample depends on its padding, or nobody knows where that is."""
    return unfit_mask(
        reference,
        name,
        f"is masked by `{name}`, and where `{site}` has its padding cannot be told",
        "name the mask in the model's `inputs`, with sizes that may vary, or skip the layer",
    )

"""How much the network's output depends on each row of a layer's output.

A layer's solvers add up the errors of all rows, and rows are not alike: of a vision transformer's
last block only the class token is read. With ``r`` standard normal over the network's output ``z``,
the gradient ``g`` of ``r z`` by a layer's output has ``E[g g^T] = J^T J``: what a disturbance there
adds to the squared error of ``z``, and the Fisher matrix of ``z`` with unit noise. (BRECQ, arXiv
2102.05426, section 3.3, has the task's loss in place of ``z``: where the model is sure that has no
gradient, and few samples would decide all.) The mean of ``g^2`` over a row is its importance.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.capture.main_output import main_output
from qcompile.capture.node_meta import facts
from qcompile.capture.operations import mutates
from qcompile.capture.unit import Unit
from qcompile.data.metrics import primary_output
from qcompile.passes.layer_form import layer_form
from qcompile.passes.padding import NO_PADDING, Padding
from qcompile.passes.sweep_node import Operation, operation
from qcompile.passes.sweep_values import Value, map_tensors, tensors_in
from qcompile.quant.geometry import Dense, output_rows

SAMPLES = 4
"""Of a batch that are run at once: a unit's backward pass holds all of its values."""
EVEN = 0.5
"""Share of the weight that all rows have alike, so that few of them do not decide alone."""

Batch = Mapping[str, Tensor]


def row_importance(
    module: fx.GraphModule,
    units: Sequence[Unit],
    names: Sequence[str],
    batches: Sequence[Batch],
    device: torch.device,
    generator: torch.Generator,
    padding: Padding = NO_PADDING,
) -> dict[str, list[Tensor]]:
    """By node and batch, ``[1, rows]`` as ``geometry.rows`` has them; mean 1 over all batches.

    ``names`` are nodes that multiply rows by a weight. A node that the output does not depend on,
    or not by finite gradients, is left out, and all are where an operation has no derivative. One
    pass over the float model, each unit run a second time for its gradients: values of one unit are
    held, and what lies between units.
    """
    wanted = frozenset(names)
    forms = {n.name: layer_form(module, n) for n in module.graph.nodes if n.name in wanted}
    geometries = {name: form.geometry for name, form in forms.items() if form is not None}
    walk = _Walk(module, units, frozenset(geometries), device)
    by_pieces = _takes_any_batch(module) and _have_samples_first(module, geometries)
    size = SAMPLES if by_pieces else None
    found: dict[str, list[Tensor]] = {name: [] for name in geometries}
    for number, batch in enumerate(batches):
        parts: dict[str, list[Tensor]] = {}
        for place, piece in enumerate(_pieces(batch, size)):
            own = padding.of_samples(number, place, size)
            try:
                gradients = walk.gradients(piece, generator, own)
            except RuntimeError as problem:
                if not _is_about_derivatives(problem):
                    raise
                return {}
            for name, gradient in gradients.items():
                geometry = geometries[name]
                rows = output_rows(gradient.float().square(), geometry).mean((0, 2))
                if isinstance(geometry, Dense):
                    rows = own.kept_weights(rows[None], gradient, name, 0)[0]
                parts.setdefault(name, []).append(rows)
        for name, rows in parts.items():
            found[name].append(torch.cat(rows)[None])
    complete = {name: rows for name, rows in found.items() if len(rows) == len(batches)}
    weights = {name: _weights(rows) for name, rows in complete.items()}
    return {name: rows for name, rows in weights.items() if _is_finite(rows)}


@dataclass(frozen=True, slots=True, eq=False)
class _Stretch:
    unit: Unit
    operations: tuple[Operation, ...]


class _Walk:
    """The float model forwards over all units, and backwards unit by unit."""

    def __init__(
        self,
        module: fx.GraphModule,
        units: Sequence[Unit],
        names: frozenset[str],
        device: torch.device,
    ) -> None:
        nodes = {node.name: node for node in module.graph.nodes}
        inside = {name for unit in units for name in unit.nodes}
        (output,) = module.graph.find_nodes(op="output")
        end = main_output(output.args[0])
        self._end = None if end is None else end.name
        self._device = device
        self._names = names
        self._copies = any(mutates(node, module) for node in nodes.values())
        self._defaults = {
            node.name: node.args[0]
            for node in nodes.values()
            if node.op == "placeholder" and node.args
        }
        self._first = tuple(
            operation(module, node, device, {})
            for name, node in nodes.items()
            if node.op.startswith("call_") and name not in inside
        )
        self._stretches = [
            _Stretch(unit, tuple(operation(module, nodes[n], device, {}) for n in unit.nodes))
            for unit in units
        ]

    def gradients(
        self, batch: Batch, generator: torch.Generator, padding: Padding
    ) -> dict[str, Tensor]:
        """Of ``r z`` by the outputs of the watched nodes; ``padding`` is of this batch alone."""
        if self._end is None:
            return {}
        with torch.no_grad():
            between = self._forwards(batch)
        outcome = cast("Tensor", primary_output(between[self._end]))
        direction = torch.randn(outcome.shape, generator=generator, device=self._device)
        direction = padding.silenced(direction, self._end, 0)
        arrived: dict[str, list[Tensor]] = {}
        watched: dict[str, Tensor] = {}
        for stretch in reversed(self._stretches):
            watched |= self._backwards(stretch, between, arrived, direction)
        return watched

    def _forwards(self, batch: Batch) -> dict[str, Value]:
        """Values of placeholders, of what their sizes alone decide, and of units' outputs."""
        between: dict[str, Value] = dict(self._defaults)
        between |= {name: value.to(self._device) for name, value in batch.items()}
        for run in self._first:
            between[run.node.name] = run(lambda _, used: between[used.name])
        for stretch in self._stretches:
            values = self._inputs(stretch, between)
            for run in stretch.operations:
                values[run.node.name] = run(lambda _, used: values[used.name])  # noqa: B023
            between |= {name: values[name] for name in stretch.unit.outputs}
        return between

    def _inputs(self, stretch: _Stretch, between: Mapping[str, Value]) -> dict[str, Value]:
        values = {name: between[name] for name in stretch.unit.inputs}
        copied = self._copies
        return {n: map_tensors(v, Tensor.clone) if copied else v for n, v in values.items()}

    @torch.enable_grad()
    def _backwards(
        self,
        stretch: _Stretch,
        between: Mapping[str, Value],
        arrived: dict[str, list[Tensor]],
        direction: Tensor,
    ) -> dict[str, Tensor]:
        """Gradients of the unit's watched nodes; those of its inputs are added to ``arrived``."""
        outputs = stretch.unit.outputs
        if self._end not in outputs and not any(name in arrived for name in outputs):
            return {}
        leaves = {name: _leaf(between[name]) for name in stretch.unit.inputs}
        values = {n: map_tensors(v, Tensor.clone) if self._copies else v for n, v in leaves.items()}
        watched: dict[str, Tensor] = {}
        for run in stretch.operations:
            name = run.node.name
            made = run(lambda _, used: values[used.name])
            if name in self._names:
                own = cast("Tensor", made)
                own = own if own.requires_grad else own.detach().requires_grad_()
                watched[name] = own
                made = own.clone() if self._copies else own
            values[name] = made
        total = torch.zeros((), device=self._device)
        if self._end in outputs:
            total = total + (cast("Tensor", primary_output(values[self._end])) * direction).sum()
        for name in outputs:
            for tensor, gradient in zip(_floats(values[name]), arrived.get(name, ()), strict=False):
                total = total + (tensor * gradient).sum()
        if not total.requires_grad:
            return {}
        of_leaves = [tensor for leaf in leaves.values() for tensor in _floats(leaf)]
        wanted = [*watched.values(), *of_leaves]
        gradients = torch.autograd.grad(total, wanted, allow_unused=True)
        found = cast("tuple[Tensor | None, ...]", gradients)
        rest = iter(found[len(watched) :])
        for name, leaf in leaves.items():
            own = [_or_zero(next(rest), tensor) for tensor in _floats(leaf)]
            before = arrived.get(name, own)
            arrived[name] = own if before is own else list(map(torch.add, before, own))
        pairs = zip(watched, found, strict=False)
        return {name: gradient for name, gradient in pairs if gradient is not None}


def _leaf(value: Value) -> Value:
    def change(tensor: Tensor) -> Tensor:
        own = tensor.detach()
        return own.requires_grad_() if own.is_floating_point() else own

    return map_tensors(value, change)


def _or_zero(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


def _floats(value: Value) -> list[Tensor]:
    return [tensor for tensor in tensors_in(value) if tensor.is_floating_point()]


def _is_about_derivatives(problem: RuntimeError) -> bool:
    """There is no type for these in torch."""
    return any(words in str(problem) for words in ("derivative", "inplace operation"))


def _takes_any_batch(module: fx.GraphModule) -> bool:
    """The model was not traced for batches of one size."""
    shapes = [facts(node).shape for node in module.graph.find_nodes(op="placeholder")]
    return not any(shape and isinstance(shape[0], int) for shape in shapes)


def _have_samples_first(module: fx.GraphModule, names: Collection[str]) -> bool:
    """Else rows of pieces, one behind the other, would not be those of the whole in their order."""
    shapes = [facts(node).shape for node in module.graph.find_nodes(op="placeholder")]
    samples = {shape[0] for shape in shapes if shape}
    own = [facts(node).shape for node in module.graph.nodes if node.name in names]
    return all(shape is None or shape[:1] == () or shape[0] in samples for shape in own)


def _pieces(batch: Batch, size: int | None) -> list[Batch]:
    """``size`` samples each, or all; what has no samples of its own goes into every piece."""
    count = max(len(value) for value in batch.values())
    return [
        {
            name: value[start : start + (size or count)] if len(value) == count else value
            for name, value in batch.items()
        }
        for start in range(0, count, size or count)
    ]


def _weights(rows: list[Tensor]) -> list[Tensor]:
    mean = torch.cat(rows, 1).mean().item()
    return [EVEN + (1 - EVEN) * part / mean if mean else torch.ones_like(part) for part in rows]


def _is_finite(rows: list[Tensor]) -> bool:
    return all(bool(torch.isfinite(part).all()) for part in rows)

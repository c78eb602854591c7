"""The calibration sweep: one walk over the graph, both streams side by side, no prefix run twice.

Node by node, and at each node over all batches, the sweep evaluates the float model and the model
whose earlier sites are already quantized. A site with a plan gets its ranges and codes from what
arrives there, behind everything quantized before it (the asymmetric setting of arXiv 2102.05426).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.capture.lifetimes import Lifetimes, is_result
from qcompile.capture.operations import mutates
from qcompile.capture.unit import Unit
from qcompile.compat.heap import give_back_freed
from qcompile.methods.tuning import Tuning
from qcompile.passes.block import Block, first_batches
from qcompile.passes.graph_inputs import graph_inputs
from qcompile.passes.held_out import leading
from qcompile.passes.padding import NO_PADDING, Padding
from qcompile.passes.reconstruct import Account, Tick, reconstruct, tick_steps
from qcompile.passes.row_importance import row_importance
from qcompile.passes.solvers import unit_seed
from qcompile.passes.sweep_guard import check_finite
from qcompile.passes.sweep_node import attribute, operation
from qcompile.passes.sweep_progress import Progress, SweepStep
from qcompile.passes.sweep_result import Recomputed, ResultFigures
from qcompile.passes.sweep_site import SiteContext, SiteFigures, quantize_site, weight_names
from qcompile.passes.sweep_state import ChainState, chain_state, restored
from qcompile.passes.sweep_streams import Streams
from qcompile.passes.sweep_values import Value, batch_size, floats_in, map_tensors
from qcompile.passes.sweep_work import Inputs, UnitWork
from qcompile.passes.tail import Tail, tail_behind
from qcompile.policy.core import SitePlan, TensorPlan
from qcompile.quant.losses.registry import loss
from qcompile.quant.stored_weight import StoredWeight, stored_weight

ROWS = "rows"
"""Of the run's seed, for what is drawn before the first unit."""
NO_TUNINGS: Mapping[str, Tuning] = MappingProxyType({})
NO_NORMS: Mapping[str, Sequence[str]] = MappingProxyType({})
Batch = Mapping[str, Tensor]
"""By the name of the graph's placeholder; the first axis counts samples."""


@dataclass(frozen=True, slots=True, eq=False)
class UnitOutcome:
    """What one unit adds to the artifact, how far it is off, and how to go on from here."""

    unit: str
    tensors: dict[str, Tensor]
    """By artifact name, on the CPU."""
    output_error: float | None
    """Of the unit's main output: ``sum |q - f|^2 / sum |f|^2`` over all batches."""
    sites: tuple[SiteFigures, ...]
    accounts: tuple[tuple[str, Account], ...]
    """By block or layer: what each reconstruction kept, and why."""
    state: ChainState


def sweep(
    module: fx.GraphModule,
    units: Sequence[Unit],
    sites: Mapping[str, SitePlan],
    batches: Sequence[Batch],
    *,
    tuning: Tuning,
    tunings: Mapping[str, Tuning] = NO_TUNINGS,
    norms: Mapping[str, Sequence[str]] = NO_NORMS,
    seed: int,
    device: torch.device,
    judging: int | None = None,
    padding: Padding = NO_PADDING,
    start: ChainState | None = None,
    progress: Progress | None = None,
) -> Iterator[UnitOutcome]:
    """Quantize unit after unit; ``sites`` are by node name, ``start`` is where to go on.

    ``tunings`` are those of single sites, by node name; they agree in a unit that is learned whole.
    ``norms`` are paths of the parameters of norms that are learned with a unit, by its name.
    ``judging`` batches, the last, take no part in a fit; ``None``: one in eight. Positions that
    are ``padding`` are in no range, no fit and no error.
    The module is only read. Going on from a saved state gives the bits of an unbroken sweep.
    """
    walk = _Walk(
        module,
        units,
        sites,
        batches,
        tuning,
        tunings,
        norms,
        seed,
        device,
        judging,
        padding,
        progress,
    )
    first = 0
    walk.weigh_rows()
    if start is None:
        walk.begin()
    else:
        first = 1 + [unit.name for unit in units].index(start.unit)
        walk.resume(start, units[:first])
        del start
    for unit in units[first:]:
        # not around the yield: the mode would leak into the caller
        with torch.no_grad():
            outcome = walk.run(unit)
        yield outcome
        del outcome  # its state holds values that the next unit lets go of


@dataclass(eq=False)
class _Walk:
    """The state of one sweep. Values are held from the node that makes them to their last use."""

    module: fx.GraphModule
    units: Sequence[Unit]
    sites: Mapping[str, SitePlan]
    batches: Sequence[Batch]
    tuning: Tuning
    tunings: Mapping[str, Tuning]
    norms: Mapping[str, Sequence[str]]
    seed: int
    device: torch.device
    judging: int | None
    padding: Padding
    progress: Progress | None

    def __post_init__(self) -> None:
        self.nodes = {node.name: node for node in self.module.graph.nodes}
        self.lifetimes = Lifetimes(self.nodes.values(), self.units)
        self.total = sum(self._pieces(unit) for unit in self.units)
        self.done = 0
        self.storage_last_use = self._storage_last_use()
        self.streams = Streams()
        self.weights: dict[str, tuple[StoredWeight, TensorPlan]] = {}
        """By storage: kept as long as a later site uses the same weight."""
        self.batch_sizes = [batch_size(batch) for batch in self.batches]
        self.row_weights: Mapping[str, Sequence[Tensor]] = {}
        self.results: dict[str, ResultFigures] = {}
        """Of nodes of the unit that nothing reads and nothing is learned from: not held."""

    def weigh_rows(self) -> None:
        """Where a solver of layers minds which rows the network's output depends on."""
        names = [
            name
            for unit in self.units
            for name in self._weighted(unit)
            if self._tuning_of(name).weighs_rows
        ]
        if names:
            generator = torch.Generator(self.device).manual_seed(unit_seed(self.seed, ROWS))
            given = (self.module, self.units, names, self.batches, self.device)
            self.row_weights = row_importance(*given, generator, self.padding)

    def begin(self) -> None:
        """Put the batches into the streams, and what is computed from their sizes alone.

        Nodes in no unit are arithmetic on input sizes; they follow the placeholders and depend on
        nothing else.
        """
        for name, values in graph_inputs(self.module, self.batches, self.device):
            self.streams.put(name, values, None)
        with torch.no_grad():
            for name, node in self.nodes.items():
                if node.op.startswith("call_") and name not in self.lifetimes.place:
                    self._evaluate(name)

    def resume(self, start: ChainState, finished: Sequence[Unit]) -> None:
        self.done = sum(self._pieces(unit) for unit in finished)
        self.streams, tensors = restored(start, self.device)
        for storage, plan in self._weight_plans():
            if storage not in self.weights and f"{storage}:codes" in tensors:
                code = stored_weight(tensors, storage, plan.spec, plan.shape, plan.output_axis)
                self.weights[storage] = (code, plan)

    def run(self, unit: Unit) -> UnitOutcome:
        give_back_freed()
        generator = torch.Generator(self.device).manual_seed(unit_seed(self.seed, unit.name))
        context = SiteContext(
            module=self.module,
            device=self.device,
            streams=self.streams,
            fitted=len(self.batches),
            tuning=self.tuning,
            generator=generator,
            judging=self.judging,
            row_weights=self.row_weights,
            padding=self.padding,
        )
        self._check_inputs(unit)
        whole = self._learned_whole(unit)
        by_block = whole is not None
        self.results = {} if by_block else self._unread(unit)
        inputs = self._inputs(unit.inputs, unit.nodes) if by_block else {}
        work = UnitWork(context, inputs, self._norms(unit))
        held = set(unit.outputs)
        for name in unit.nodes:
            if name in self.sites:
                work.figures.append(self._quantize(unit, work, name, held))
            else:
                self._evaluate(name, held)
            self._free(self.lifetimes.place[name], held)
        main = self._main_output(unit)
        self._check_outputs(unit, main)
        if main is not None and whole is not None:
            self._reconstruct(unit, work, whole, work.inputs, unit.name, unit.nodes, main)
        error = None if main is None else self._error(main)
        self._free(self.lifetimes.place[unit.nodes[-1]], set())
        self.streams.settle()
        tensors = {name: tensor.cpu() for name, tensor in work.tensors().items()}
        accounts = tuple(work.accounts)
        return UnitOutcome(
            unit.name, tensors, error, tuple(work.figures), accounts, self._state(unit)
        )

    def _quantize(
        self, unit: Unit, work: UnitWork, name: str, held: AbstractSet[str]
    ) -> SiteFigures:
        node, site = self.nodes[name], self.sites[name]
        if not site.tensors:
            self._evaluate(name, held)
            return SiteFigures(site.key, None, self._error(name))
        self._report(unit, site.key)
        self._split_if_in_place(node)
        known = {storage: code for storage, (code, _) in self.weights.items()}
        tuning = self._tuning_of(name)
        by_layer = tuning.learns and tuning.partition == "layer"
        used = [item.name for item in node.all_input_nodes if item.op != "get_attr"]
        inputs = self._inputs(used, (name,)) if by_layer else {}
        plain = self._wanted(node, site, tuning)
        fitted = leading(tuning.samples, self.batch_sizes)
        context = replace(work.context, tuning=tuning, fitted=fitted)
        result = quantize_site(context, node, site, known, plain)
        work.add(result.site)
        if result.site.solved is not None:
            solved = result.site.solved
            self.weights[solved.storage] = (solved.start.code, solved.plan)
        evaluate = plain.__getitem__ if plain else self._evaluation(node, quantized=False)
        self._put(name, evaluate, result.value, held)
        if by_layer:
            self._reconstruct(unit, work, tuning, inputs, site.key, (name,), name)
        return replace(result.figures, output_error=self._error(name))

    def _wanted(self, node: fx.Node, site: SitePlan, tuning: Tuning) -> Sequence[Value]:
        """The float output, where a solver of the layer fits it; else nothing, to save memory."""
        solves = tuning.uses_moments and site.has_weight
        if not solves or mutates(node, self.module):
            return []
        made = Recomputed(self._evaluation(node, quantized=False), len(self.batches))
        return made if node.name in self.results else list(made)

    def _inputs(self, names: Sequence[str], nodes: Sequence[str]) -> Inputs:
        """The cached values that a reconstruction starts from; copies if it works in place."""
        in_place = any(mutates(self.nodes[name], self.module) for name in nodes)

        def kept(values: list[Value]) -> list[Value]:
            return [map_tensors(v, Tensor.clone) for v in values] if in_place else list(values)

        return {
            name: (
                kept(self.streams.float_values(name)),
                kept(self.streams.quantized_values(name)),
            )
            for name in names
        }

    def _reconstruct(
        self,
        unit: Unit,
        work: UnitWork,
        tuning: Tuning,
        inputs: Inputs,
        name: str,
        nodes: Sequence[str],
        output: str,
    ) -> None:
        """Learn a stretch as a whole, then give its quantized stream the values of the result."""
        block = Block(
            module=self.module,
            device=self.device,
            nodes=tuple(self.nodes[node] for node in nodes),
            output=output,
            sites={node: work.sites[node] for node in nodes if node in work.sites},
            quantized={node: values[1] for node, values in inputs.items()},
            plain={node: values[0] for node, values in inputs.items()},
            targets=[cast("Tensor", value) for value in self.streams.float_values(output)],
            tail=self._tail(tuning, output),
            norms=work.norms_of(nodes),
            padding=self.padding,
        )
        if not block.solved:
            return

        def tick(moment: Tick) -> None:
            self._report(unit, name, moment.step, moment.loss)

        seen = first_batches(block, leading(tuning.samples, self.batch_sizes))
        with torch.enable_grad():
            result = reconstruct(seen, tuning, work.context.generator, tick, self.judging)
        work.replace(name, result)
        for storage, code in result.codes.items():
            if storage in self.weights:
                self.weights[storage] = (code.code, self.weights[storage][1])
        choice = work.choice(block)
        kept = [node for node in nodes if node in self.streams.live]
        found: list[list[Value]] = []
        for number in range(len(self.batches)):
            values = block.values(choice, block.batch(number))
            found.append([values[node] for node in kept])
        for place, node in enumerate(kept):
            self.streams.put_quantized(node, [values[place] for values in found])

    def _norms(self, unit: Unit) -> dict[str, dict[str, Tensor]]:
        """Parameters that are learned with the unit, as the model has them: by node and path."""
        found: dict[str, dict[str, Tensor]] = {}
        nodes = (self.nodes[name] for name in unit.nodes)
        called = {str(node.target): node.name for node in nodes if node.op == "call_module"}
        for path in self.norms.get(unit.name, ()):
            value = cast("Tensor", attribute(self.module, path)).detach().to(self.device)
            found.setdefault(called[path.rpartition(".")[0]], {})[path] = value.clone()
        return found

    def _tail(self, tuning: Tuning, output: str) -> Tail | None:
        if not any(loss(term.name).sees != "output" for term in tuning.loss):
            return None
        return tail_behind(self.module, output, self.streams, self.device)

    def _evaluate(self, name: str, held: AbstractSet[str] = frozenset()) -> None:
        """A node without a plan: once, or once a stream where its inputs differ."""
        node = self.nodes[name]
        inputs = [used.name for used in node.all_input_nodes if used.op != "get_attr"]
        plain = self._evaluation(node, quantized=False)
        if all(self.streams.is_shared(used) for used in inputs):
            self._put(name, plain, None, held)
            return
        self._split_if_in_place(node)
        self._put(name, plain, self._evaluation(node, quantized=True), held)

    def _evaluation(self, node: fx.Node, *, quantized: bool) -> Callable[[int], Value]:
        """By batch, of one stream; reads it when it is called."""
        run = operation(self.module, node, self.device, {})
        read = self.streams.quantized_values if quantized else self.streams.float_values

        def value(batch: int) -> Value:
            return run(lambda _, used: read(used.name)[batch])

        return value

    def _put(
        self,
        name: str,
        plain: Callable[[int], Value],
        quantized: Callable[[int], Value] | None,
        held: AbstractSet[str],
    ) -> None:
        """Evaluate a node batch by batch; what it reads last is let go of as it is read.

        The quantized stream first: where a node works in place, it may spoil the float one.
        """
        read = [used.name for used in self.nodes[name].all_input_nodes if used.op != "get_attr"]
        place = self.lifetimes.place.get(name)  # ``None``: of sizes, before the first unit
        over = [] if place is None else self.lifetimes.over(read, place, held)
        found: tuple[list[Value], list[Value]] = ([], [])
        result = self.results.get(name)
        for batch in range(len(self.batches)):
            behind = None if quantized is None else quantized(batch)
            value = plain(batch)
            if result is not None:
                result.see(batch, value, value if quantized is None else behind)
            else:
                found[0].append(value)
                found[1].append(behind)
            del value, behind
            self.streams.give_up(over, batch)
        if result is None:
            self.streams.put(name, found[0], None if quantized is None else found[1])

    def _split_if_in_place(self, node: fx.Node) -> None:
        if mutates(node, self.module):
            for used in node.all_input_nodes:
                if used.op != "get_attr":
                    self.streams.split(used.name)

    def _free(self, place: int, held: AbstractSet[str]) -> None:
        for name in self.lifetimes.over(self.streams.live, place, held):
            self.streams.free(name)
        for storage in list(self.weights):
            if self.storage_last_use[storage] <= place:
                del self.weights[storage]

    def _error(self, name: str) -> float | None:
        if name in self.results:
            return self.results[name].error
        return self.streams.error(name, self.padding)

    def _main_output(self, unit: Unit) -> str | None:
        """The output made last that holds floating-point numbers; the others are side values."""
        inside = sorted(unit.outputs, key=lambda name: self.lifetimes.place[name], reverse=True)
        return next(filter(self._has_floats, inside), None)

    def _has_floats(self, name: str) -> bool:
        if name in self.results:
            return self.results[name].has_floats
        return bool(floats_in(self.streams.float_values(name)[:1]))

    def _unread(self, unit: Unit) -> dict[str, ResultFigures]:
        return {
            name: ResultFigures(unit.name, name, self.batch_sizes, self.padding)
            for name in unit.nodes
            if is_result(self.nodes[name])
            and not (name in self.sites and self._tuning_of(name).learns)
        }

    def _check_inputs(self, unit: Unit) -> None:
        """What the batches bring; what earlier units bring was checked when it left them."""
        for name in unit.inputs:
            if self.nodes[name].op == "placeholder":
                self._check(unit, name, masks_allowed=True)

    def _check_outputs(self, unit: Unit, main: str | None) -> None:
        for name in unit.outputs:
            self._check(unit, name, masks_allowed=name != main)

    def _check(self, unit: Unit, name: str, *, masks_allowed: bool) -> None:
        if name in self.results:
            self.results[name].check(masks_allowed=masks_allowed)
            return
        streams = {"float": self.streams.float_values(name)}
        if not self.streams.is_shared(name):
            streams["quantized"] = self.streams.quantized_values(name)
        for stream, values in streams.items():
            check_finite(
                values,
                self.batch_sizes,
                unit=unit.name,
                stream=stream,
                masks_allowed=masks_allowed,
            )

    def _state(self, unit: Unit) -> ChainState:
        kept: dict[str, Tensor] = {}
        for storage, (code, _) in self.weights.items():
            kept |= code.tensors(storage)
        return chain_state(unit.name, self.streams, kept)

    def _report(
        self, unit: Unit, place: str, step: int | None = None, loss: float | None = None
    ) -> None:
        if self.progress is not None:
            number = min(self.done + 1, self.total)
            self.progress(SweepStep(unit.name, place, number, self.total, step, loss))
        self.done += 1

    def _pieces(self, unit: Unit) -> int:
        """Pieces of work in a unit, as ``SweepStep`` counts them."""
        planned = sum(bool(self.sites[n].tensors) for n in unit.nodes if n in self.sites)
        tunings = [self._tuning_of(name) for name in self._weighted(unit)]
        whole = self._learned_whole(unit)
        learned = [t for t in tunings if t.learns] if whole is None else [whole]
        return planned + sum(len(tick_steps(tuning.steps)) for tuning in learned)

    def _tuning_of(self, name: str) -> Tuning:
        return self.tunings.get(name, self.tuning)

    def _weighted(self, unit: Unit) -> list[str]:
        """Nodes whose weight is quantized: they are what a tuning is about."""
        return [name for name in unit.nodes if name in self.sites and self.sites[name].has_weight]

    def _learned_whole(self, unit: Unit) -> Tuning | None:
        """The tuning of a unit that is learned as one; ``None`` where layers stand alone."""
        tunings = [self._tuning_of(name) for name in self._weighted(unit)]
        whole = (one for one in tunings if one.learns_whole)
        return next(whole, None)

    def _storage_last_use(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for name in self.lifetimes.place:
            for storage, _ in self._weight_plans([name]):
                found[storage] = self.lifetimes.place[name]
        return found

    def _weight_plans(self, names: Sequence[str] | None = None) -> Iterator[tuple[str, TensorPlan]]:
        """Planned weights by storage, in the order of the walk."""
        for name in self.lifetimes.place if names is None else names:
            for plan in self.sites[name].tensors if name in self.sites else ():
                if plan.slot == "weight":
                    yield weight_names(plan)[1], plan

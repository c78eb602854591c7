"""The second phase: trace the model, resolve every rule, decide every tensor."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, fx, nn

from qcompile.analysis.accumulator import ACCUMULATOR_BITS
from qcompile.analysis.context import Context
from qcompile.analysis.decide import decide
from qcompile.analysis.forecast import forecast
from qcompile.analysis.graph_facts import graph_facts
from qcompile.analysis.rules.registry import run_rules
from qcompile.analysis.shared_operands import shared_operands
from qcompile.analysis.size_parts import size_parts
from qcompile.analysis.target_check import check_target
from qcompile.capture.blocks import find_units
from qcompile.capture.captured import Captured
from qcompile.capture.sites import find_sites
from qcompile.capture.tensors import tensor_paths
from qcompile.capture.trace import trace
from qcompile.capture.unit import Unit
from qcompile.data.batches import model_arguments, split_off
from qcompile.data.groups import lacks_groups
from qcompile.data.input_check import InputSpec, expected_inputs
from qcompile.data.masks import without_mask
from qcompile.data.model_source import LoadedModel, load_empty_model, load_model
from qcompile.data.reading import Reading
from qcompile.data.sources import open_data
from qcompile.data.weight_loading import finite_problems
from qcompile.data.weights import MemoryWeights, WeightSource
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label, has_errors, in_order
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.example import BATCH, Example, declared
from qcompile.driver.rotations import with_rotations
from qcompile.driver.transforms import folded, rescalings
from qcompile.driver.tunes import as_tuned, plan_tunes, tunings_by_key
from qcompile.driver.untied import still_there, with_own_weights
from qcompile.policy.assertion import Measured, check_assertions, check_limits
from qcompile.policy.blocks import named_blocks
from qcompile.policy.core import SitePlan, TransformPlan, TunePlan, UnitPlan
from qcompile.policy.executable import not_executable, unserved_blocks, unserved_formats
from qcompile.policy.fallback import taken_fallback
from qcompile.policy.graph_facts import GraphFacts
from qcompile.policy.idle_limits import idle_limits
from qcompile.policy.recipe import BlockEach, BlockGroup, Recipe, TargetName
from qcompile.policy.resolution import Resolution
from qcompile.policy.resolve import resolve
from qcompile.policy.rungs import FEWEST_BITS, Rungs
from qcompile.policy.selection import Selection
from qcompile.policy.site import Site
from qcompile.targets.catalogue import find_target
from qcompile.targets.target import Target

IDLE_IN_A_FALLBACK = (Code.EMPTY_SELECTION, Code.NOTHING_TO_PREPARE)
"""What is tuned or prepared for the policy's own schemes need not be there for another."""


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """A recipe and a model, put together. ``diagnostics`` holds warnings only."""

    recipe: Recipe
    model: nn.Module
    weights: WeightSource
    expected: Mapping[str, InputSpec]
    """Type and shape of each input, by name."""
    graph: fx.GraphModule
    """Float, after the transforms: what will be quantized."""
    sites: tuple[Site, ...]
    """What the recipe could select, before the transforms."""
    resolution: Resolution
    units: tuple[Unit, ...]
    planned: tuple[SitePlan, ...]
    tunes: tuple[TunePlan, ...]
    measured: Measured
    """What can be said of the plan as a whole."""
    transforms: tuple[TransformPlan, ...]
    forecast: tuple[UnitPlan, ...]
    facts: GraphFacts
    diagnostics: tuple[Diagnostic, ...]
    trusted: frozenset[str]
    seen: "Seen"
    """From what it can be bound again."""
    rungs: Rungs | None = None
    """What was chosen where the recipe says `choose`; ``None``: nothing so far. All such sites have
    the fewest bits then, and nothing is claimed of the plan."""
    is_preview: bool = False
    """Made without weights and data: it can be planned and looked at, but not run."""

    @property
    def is_open(self) -> bool:
        """There is something to choose."""
        return self.rungs is None and self.resolution.is_open

    @property
    def root(self) -> Path:
        """The recipe's folder, from which its references are looked up."""
        return recipe_folder(self.recipe)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A recipe's model as a graph, before any rule is looked at."""

    loaded: LoadedModel
    example: Example
    captured: Captured
    sites: tuple[Site, ...]
    diagnostics: tuple[Diagnostic, ...]


def recipe_folder(recipe: Recipe) -> Path:
    return Path(recipe.source.name).parent


def bind(
    recipe: Recipe,
    model: nn.Module | None = None,
    example_inputs: tuple[Tensor, ...] | dict[str, Tensor] | None = None,
    *,
    trusted: frozenset[str] = frozenset(),
    preview: bool = False,
    rungs: Rungs | None = None,
) -> Bound:
    """Trace ``model`` and resolve the recipe against it.

    Without ``model`` the recipe's own reference is loaded; without ``example_inputs`` the recipe's
    ``input`` lines, the model's own example, or one batch of calibration data is used. With
    ``preview`` no weights are read, and data only for its shape where nothing else tells it.
    ``rungs`` are what was chosen before. Raises ``CompileError`` with every error of the phase that
    failed.
    """
    seen = look(recipe, model, example_inputs, trusted=trusted, preview=preview)
    return bind_seen(recipe, seen, trusted=trusted, preview=preview, rungs=rungs)


def bind_seen(
    recipe: Recipe,
    seen: Seen,
    *,
    trusted: frozenset[str] = frozenset(),
    preview: bool = False,
    rungs: Rungs | None = None,
) -> Bound:
    """The same for a model that was looked at before. Raises ``CompileError``."""
    loaded, example, sites = seen.loaded, seen.example, seen.sites
    diagnostics = list(seen.diagnostics)
    resolution, found = resolve(recipe, sites, rungs or FEWEST_BITS)
    diagnostics.extend(found)
    graph, copies, found = with_own_weights(seen.captured.module, resolution)
    diagnostics.extend(found)
    graph, folds = folded(graph, resolution)
    copies = still_there(copies, graph)
    straight = graph
    graph, turned, idle = with_rotations(recipe, straight, sites, resolution)
    added = tensor_paths(graph) - tensor_paths(straight)
    added |= {path for item in copies for path in item.parameters}
    diagnostics += _that_matters(recipe, idle)
    final_sites = find_sites(graph)
    units, found = divided(recipe, graph, final_sites)
    targets, unknown = targets_of(recipe)
    narrowest = min((one.accumulator_bits for _, one in targets), default=ACCUMULATOR_BITS)
    context = Context(recipe, graph, final_sites, resolution, narrowest)
    diagnostics += [*found, *run_rules(context)]
    _raise_errors(diagnostics)
    shares, found = shared_operands(recipe, seen.captured.module, sites, resolution)
    _raise_errors([*diagnostics, *found])
    planned = decide(graph, final_sites, units, resolution, shares)
    diagnostics += unknown
    diagnostics += [item for one in targets for item in check_target(*one, planned)]
    sizes = forecast(graph, units, planned, added)
    measured = Measured(
        bytes_total=sum(unit.bytes_after for unit in sizes),
        blocks=block_sites(units, sites),
        parts=size_parts(graph, planned),
    )
    tunes, found = _tunes(recipe, sites, resolution, measured, units, planned)
    tunings = tunings_by_key(tunes)
    units, planned, sizes, problems = as_tuned(recipe, graph, units, planned, tunings, added)
    moved, missing = rescalings(recipe, graph, sites, resolution, planned, tunings)
    problems += missing
    diagnostics += [*found, *problems, *unserved_formats(recipe, planned, tunings)]
    diagnostics += unserved_blocks(recipe, planned)
    if rungs is not None or not resolution.is_open:
        diagnostics += _claims(recipe, sites, resolution, measured)
    in_float = sum(unit.bytes_before for unit in sizes)
    diagnostics += idle_limits(recipe.budget, sites, resolution, measured, in_float)
    diagnostics = _that_matters(recipe, diagnostics)
    _raise_errors(diagnostics)
    return Bound(
        recipe=recipe,
        model=loaded.module,
        weights=loaded.weights,
        expected=expected_inputs(example.named(loaded.module), seen.captured.free_axes),
        graph=graph,
        sites=sites,
        resolution=resolution,
        units=units,
        planned=planned,
        tunes=tunes,
        measured=measured,
        transforms=(*copies, *folds, *turned, *moved),
        forecast=sizes,
        facts=graph_facts(context, units),
        diagnostics=tuple(in_order(diagnostics)),
        trusted=trusted,
        seen=seen,
        rungs=rungs,
        is_preview=preview,
    )


def look(
    recipe: Recipe,
    model: nn.Module | None = None,
    example_inputs: tuple[Tensor, ...] | dict[str, Tensor] | None = None,
    *,
    trusted: frozenset[str] = frozenset(),
    preview: bool = False,
) -> Seen:
    """Load and trace the model alone. Raises ``CompileError``; the parameters are ``bind``'s."""
    loaded, diagnostics = _model(recipe, model, trusted, preview)
    example = _example(recipe, loaded, example_inputs, trusted)
    captured = trace(loaded.module, example.args, example.kwargs, dynamic=example.dynamic)
    found = (*diagnostics, *captured.diagnostics)
    return Seen(loaded, example, captured, find_sites(captured.module), found)


def _model(
    recipe: Recipe, model: nn.Module | None, trusted: frozenset[str], preview: bool
) -> tuple[LoadedModel, list[Diagnostic]]:
    _raise_errors([*recipe.unavailable, *not_executable(recipe)])
    if model is not None and preview:
        return LoadedModel(model, MemoryWeights({}), None, type(model).__name__), []
    if model is not None:
        problems = finite_problems(model)
        _raise_errors(problems)
        state = {k: v for k, v in model.state_dict().items() if isinstance(v, Tensor)}
        return LoadedModel(model, MemoryWeights(state), None, type(model).__name__), problems
    if recipe.model is None:
        raise ValueError("a library has no model; pass one to `bind`")
    asked, root = recipe.model, recipe_folder(recipe)
    if preview:
        loaded, problems = load_empty_model(
            asked.reference, args=asked.args, root=root, trusted=trusted
        )
    else:
        weights = None if asked.weights is None else Path(asked.weights)
        loaded, problems = load_model(
            asked.reference, args=asked.args, weights=weights, root=root, trusted=trusted
        )
    if loaded is None:
        raise CompileError(problems)
    return loaded, problems


def _example(
    recipe: Recipe,
    loaded: LoadedModel,
    given: tuple[Tensor, ...] | dict[str, Tensor] | None,
    trusted: frozenset[str],
) -> Example:
    if isinstance(given, dict):
        return Example((), given)
    if given is not None:
        return Example(given)
    if recipe.model is not None and recipe.model.inputs:
        return declared(recipe.model.inputs, loaded.module)
    if loaded.example_inputs is not None:
        return Example(loaded.example_inputs)
    if recipe.calibration is None:
        raise CompileError([no_example(recipe)])
    reading = Reading(recipe.model_reference, recipe.calibration.seq_len, recipe.images)
    reference = recipe.calibration.reference
    source, problems = open_data(reference, recipe_folder(recipe), trusted, reading)
    if source is None:
        raise CompileError(problems)
    rows = source.read(range(min(BATCH, len(source))))
    labels, groups = recipe.calibration.labels or source.labels, recipe.calibration.groups
    if groups is not None:
        problem = lacks_groups(rows, groups, labels, reference)
        if problem is not None:
            raise CompileError([problem])
        rows, _ = split_off(rows, groups)
    inputs = without_mask(split_off(rows, labels)[0], recipe.calibration.mask, loaded.module)
    return Example(*model_arguments(inputs))


def _tunes(
    recipe: Recipe,
    sites: tuple[Site, ...],
    resolution: Resolution,
    measured: Measured,
    units: tuple[Unit, ...],
    planned: tuple[SitePlan, ...],
) -> tuple[tuple[TunePlan, ...], list[Diagnostic]]:
    """Selectors of ``tune`` see what the policy has decided, and the blocks."""
    selection = Selection(sites, resolution.decided(measured.blocks))
    return plan_tunes(recipe, selection, sites, units, planned)


def _claims(
    recipe: Recipe, sites: tuple[Site, ...], resolution: Resolution, measured: Measured
) -> list[Diagnostic]:
    return [
        *check_limits(recipe.budget, sites, resolution, measured),
        *check_assertions(recipe.assertions, sites, resolution, measured),
    ]


def divided(
    recipe: Recipe, graph: fx.GraphModule, sites: tuple[Site, ...]
) -> tuple[tuple[Unit, ...], list[Diagnostic]]:
    """The units of ``graph``, with the blocks that the recipe names."""
    named, diagnostics = named_blocks(recipe, sites)
    group_names = {row.name for row in recipe.blocks if isinstance(row, BlockGroup)}
    has_each = any(isinstance(row, BlockEach) for row in recipe.blocks)
    each = [block.name for block in named if block.name not in group_names]
    paths = {site.index: site.path for site in sites}
    groups = {
        block.name: [paths[index] for index in sorted(block.sites)]
        for block in named
        if block.name in group_names
    }
    units, found = find_units(graph, each=each if has_each else None, groups=groups, sites=sites)
    return units, [*diagnostics, *found]


def targets_of(recipe: Recipe) -> tuple[list[tuple[TargetName, Target]], list[Diagnostic]]:
    """The recipe's own and that of its ``output``; the file of a target lies beside the recipe."""
    loaded_for = recipe.output.target if recipe.output else None
    named = {one.name: one for one in (loaded_for, recipe.target) if one is not None}
    found: list[tuple[TargetName, Target]] = []
    problems: list[Diagnostic] = []
    for name in named.values():
        target = find_target(name.name, recipe_folder(recipe))
        if isinstance(target, Diagnostic):
            problems.append(replace(target, primary=Label(name.span)))
        else:
            found.append((name, target))
    return found, problems


def block_sites(units: tuple[Unit, ...], sites: tuple[Site, ...]) -> tuple[frozenset[int], ...]:
    """``Site.index`` of the sites of each block, as ``block(k)`` counts them."""
    by_node = {site.node: site.index for site in sites}
    return tuple(
        frozenset(by_node[name] for name in unit.nodes if name in by_node)
        for unit in units
        if unit.is_block
    )


def no_example(recipe: Recipe) -> Diagnostic:
    """QR211: nothing says what the model takes."""
    return Diagnostic(
        Code.MISSING_STATEMENT,
        "nothing says what the inputs of the model are",
        Label(recipe.model.span) if recipe.model else None,
        help='add `input` to it: `model "..." { input = float32[batch, 3, 224, 224] }`, '
        "or `calibrate`",
    )


def _that_matters(recipe: Recipe, found: list[Diagnostic]) -> list[Diagnostic]:
    is_fallback = taken_fallback(recipe) is not None
    return [one for one in found if not is_fallback or one.code not in IDLE_IN_A_FALLBACK]


def _raise_errors(diagnostics: list[Diagnostic]) -> None:
    if has_errors(diagnostics):
        raise CompileError(in_order(diagnostics))

"""Which function-preserving transforms a recipe asks for, and where each of them has a place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from qcompile.analysis.exchanges import LAST, Exchange, exchanges
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.driver.nothing_to_prepare import nothing_to_prepare
from qcompile.methods.tuning import Tuning
from qcompile.passes.fold_batch_norm import FoldBatchNorm, foldable
from qcompile.passes.pipeline import run_passes
from qcompile.passes.remove_dropout import RemoveDropout
from qcompile.policy.core import ParameterPlan, SitePlan, TransformPlan
from qcompile.policy.lower_prepare import DEFAULTS, FOLD
from qcompile.policy.number_format import IntFormat
from qcompile.policy.recipe import LiteralValue, Recipe, Transform
from qcompile.policy.resolution import Resolution
from qcompile.policy.selection import Selection
from qcompile.policy.site import Site
from qcompile.policy.unmatched import unmatched_patterns


@dataclass(frozen=True, slots=True)
class Place:
    """What a transform needs to have something to do."""

    words: str
    fits: Callable[[Exchange], bool]
    helps: Callable[[Sequence[SitePlan]], bool]
    """Whether the plans of the sites that give or take a factor leave something to gain."""


def _has_activations(plans: Sequence[SitePlan]) -> bool:
    return any(tensor.slot != "weight" for plan in plans for tensor in plan.tensors)


def _has_weights(plans: Sequence[SitePlan]) -> bool:
    return any(tensor.slot == "weight" for plan in plans for tensor in plan.tensors)


def _has_integers(plans: Sequence[SitePlan]) -> bool:
    weights = [one for plan in plans for one in plan.tensors if one.slot == "weight"]
    return bool(weights) and all(isinstance(one.spec.format, IntFormat) for one in weights)


PLACES: tuple[tuple[str, Place], ...] = (
    (
        "equalize",
        Place(
            "layers with quantized weights behind another layer, at most a ReLU between",
            lambda place: place.kind == "layer",
            _has_weights,
        ),
    ),
    (
        "smoothquant",
        Place(
            "layers with quantized activations behind a norm or another layer",
            lambda place: True,
            _has_activations,
        ),
    ),
    (
        "awq",
        Place(
            "linear layers with integer weights behind a norm or another layer",
            lambda place: place.axis == LAST,
            _has_integers,
        ),
    ),
    (
        "ln_reparam",
        Place(
            "linear layers with quantized activations behind a norm",
            lambda place: place.kind != "layer" and place.axis == LAST,
            _has_activations,
        ),
    ),
)
"""In every case nothing else may read what lies between, or one of the parameters."""


def folded(
    graph: fx.GraphModule, resolution: Resolution
) -> tuple[fx.GraphModule, tuple[TransformPlan, ...]]:
    """Dropout is gone in evaluation; ``skip`` takes a layer out of every other transform."""
    keep = skipped(resolution)
    without_dropout = run_passes(graph, (RemoveDropout(),)).module
    pairs = foldable(without_dropout, keep)
    with torch.no_grad():
        graph = run_passes(without_dropout, (FoldBatchNorm(keep),)).module
    return graph, tuple(
        TransformPlan(name=FOLD, target=pair.layer, sources=(pair.norm,)) for pair in pairs
    )


def skipped(resolution: Resolution) -> frozenset[str]:
    return frozenset(d.site.path for d in resolution.decisions if d.is_skipped)


@dataclass(frozen=True, slots=True)
class _Ask:
    name: str
    settings: Mapping[str, LiteralValue]
    place: Place
    nodes: frozenset[str]
    """That it is for."""
    statement: Transform | None
    """``None``: a preset brings it along, and it may find nothing to do."""


def rescalings(
    recipe: Recipe,
    graph: fx.GraphModule,
    sites: Sequence[Site],
    resolution: Resolution,
    planned: Sequence[SitePlan],
    tunings: Mapping[str, Tuning],
) -> tuple[tuple[TransformPlan, ...], list[Diagnostic]]:
    """The factors that a run will move between layers, in the order in which it will.

    ``sites`` are those that the recipe can select, ``tunings`` those of single sites, by key. A run
    finds the factors themselves: they need calibration data.
    """
    selection = Selection(sites)
    stated = list(_stated(recipe, selection))
    asks = [*stated, *_of_presets(recipe, planned, tunings)]
    if not asks:
        return (), []
    of_node = {plan.node: plan for plan in planned}
    kept = skipped(resolution)
    fixed = {site.node for site in sites if site.path in kept}
    there = [one for one in exchanges(graph) if not one.nodes & fixed]
    plans: list[TransformPlan] = []
    problems: list[Diagnostic] = []
    for ask in asks:
        fitting = [
            one
            for one in there
            if ask.place.fits(one) and ask.nodes.issuperset(reader.node for reader in one.readers)
            if ask.place.helps([of_node[r.node] for r in one.readers if r.node in of_node])
        ]
        if ask.statement is None:  # what the recipe states itself is done as it states it
            done = {(plan.name, plan.value) for plan in plans}
            fitting = [one for one in fitting if (ask.name, one.value) not in done]
        plans.extend(_plan(ask, one) for one in fitting)
        problems.extend(_problems(ask, selection, found_some=bool(fitting)))
    return tuple(plans), problems


def _stated(recipe: Recipe, selection: Selection) -> Iterator[_Ask]:
    for item in recipe.transforms:
        place = _place(item.name)
        if place is not None:
            yield _Ask(item.name, item.settings, place, _chosen(item, selection), item)


def _of_presets(
    recipe: Recipe,
    planned: Sequence[SitePlan],
    tunings: Mapping[str, Tuning],
) -> Iterator[_Ask]:
    """For the layers that are tuned so."""
    for name, place in PLACES:
        nodes = frozenset(
            plan.node for plan in planned if name in tunings.get(plan.key, recipe.tuning).prepare
        )
        if nodes:
            yield _Ask(name, DEFAULTS[name], place, nodes, None)


def _problems(ask: _Ask, selection: Selection, *, found_some: bool) -> Iterator[Diagnostic]:
    if ask.statement is None:
        return
    if ask.statement.selector is not None:
        yield from unmatched_patterns(ask.statement.selector, selection)
    if not found_some:
        alone = "where nothing else, such as a rotation, reads what lies between"
        yield nothing_to_prepare(ask.statement, f"{ask.place.words}, {alone}")


def _place(name: str) -> Place | None:
    return next((place for known, place in PLACES if known == name), None)


def _chosen(item: Transform, selection: Selection) -> frozenset[str]:
    """Names of the nodes that the transform is for."""
    sites = selection.sites
    chosen = None if item.selector is None else selection.of(item.selector)
    return frozenset(site.node for site in sites if chosen is None or site.index in chosen)


def _plan(ask: _Ask, exchange: Exchange) -> TransformPlan:
    return TransformPlan(
        name=ask.name,
        target=_owner(exchange.divided[0].path),
        readers=tuple(_owner(reader.weight.path) for reader in exchange.readers),
        value=exchange.value,
        parameters=exchange.changed,
        settings=tuple(_settings(ask)),
    )


def _settings(ask: _Ask) -> Iterator[ParameterPlan]:
    for name, value in sorted(ask.settings.items()):
        if not isinstance(value, tuple):
            yield ParameterPlan(name=name, value=value)


def _owner(path: str) -> str:
    return path.rpartition(".")[0]

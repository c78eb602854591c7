"""Which tuning each site of a plan gets."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from torch import fx

from qcompile.analysis.forecast import forecast
from qcompile.analysis.joined_units import joined, rehomed, tunings_of_units
from qcompile.analysis.own_bias import with_refits
from qcompile.analysis.own_norms import no_norm, with_norms
from qcompile.capture.unit import Unit
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Span
from qcompile.methods.tuning import Tuning
from qcompile.passes.distribution_correction import nothing_to_correct
from qcompile.passes.norm_statistics import statistics
from qcompile.policy.core import PlanCore, SitePlan, TunePlan, UnitPlan
from qcompile.policy.recipe import Recipe, reference_to
from qcompile.policy.selection import Selection
from qcompile.policy.site import Site
from qcompile.policy.tuned_sites import Stretch, tuned_sites


def plan_tunes(
    recipe: Recipe,
    selection: Selection,
    sites: Sequence[Site],
    units: Sequence[Unit],
    planned: Sequence[SitePlan],
) -> tuple[tuple[TunePlan, ...], list[Diagnostic]]:
    """One entry for each ``tune ... for`` that decides something, in the order of the text."""
    if not recipe.tunes:
        return (), []
    weighted = {p.key: p.unit for p in planned if p.has_weight}
    inside: dict[str, list[Site]] = defaultdict(list)
    for site in sites:
        if site.key in weighted:
            inside[weighted[site.key]].append(site)
    stretches = [Stretch(unit.name, tuple(inside[unit.name])) for unit in units]
    tuned, diagnostics = tuned_sites(recipe, selection, stretches)
    plans = [
        TunePlan(
            tuning=tune.tuning,
            sites=tuple(key for key, winner in tuned.items() if winner is tune),
            decided_by=reference_to(tune.span),
        )
        for tune in recipe.tunes
    ]
    return tuple(plan for plan in plans if plan.sites), diagnostics


def as_tuned(
    recipe: Recipe,
    graph: fx.GraphModule,
    units: Sequence[Unit],
    planned: Sequence[SitePlan],
    tunings: Mapping[str, Tuning],
    added: AbstractSet[str],
) -> tuple[tuple[Unit, ...], tuple[SitePlan, ...], tuple[UnitPlan, ...], list[Diagnostic]]:
    """Units, sites and sizes as a run will have them; ``tunings`` are of single sites, by key.

    ``added`` as ``forecast`` has it. Units that are learned together are one, and what is set
    beside the codes is named.
    """
    general = recipe.tuning
    units = joined(graph, units, tunings_of_units(planned, general, tunings))
    planned = rehomed(with_refits(graph, planned, general, tunings), units)
    of_units = tunings_of_units(planned, general, tunings)
    sizes = with_norms(graph, units, forecast(graph, units, planned, added), of_units)
    nodes = {node.name: node for node in graph.graph.nodes}
    normed = [unit.name for unit in sizes if unit.refits]
    noted = [one.name for one in units if statistics(graph, map(nodes.__getitem__, one.nodes))]
    problems = [
        *(no_norm(spans["learn"]) for spans in _in_vain(recipe, of_units, _norms, normed)),
        *(
            nothing_to_correct(spans["augment"])
            for spans in _in_vain(recipe, of_units, _corrects, noted)
        ),
    ]
    return units, planned, sizes, problems


def _in_vain(
    recipe: Recipe,
    tunings: Mapping[str, Tuning],
    asks: Callable[[Tuning], bool],
    serving: Sequence[str],
) -> Iterator[Mapping[str, Span]]:
    """Statements that ask for what none of the units that they tune has; ``serving`` do."""
    served = [tunings[name] for name in serving if name in tunings]
    stated = [(recipe.tuning, recipe.tuning_spans)]
    stated += [(tune.tuning, tune.spans) for tune in recipe.tunes]
    for tuning, spans in stated:
        if asks(tuning) and tuning in tunings.values() and tuning not in served:
            yield spans


def _norms(tuning: Tuning) -> bool:
    return tuning.learns_norms


def _corrects(tuning: Tuning) -> bool:
    return tuning.learns and tuning.augment.name == "distribution_correction"


def tunings_by_key(tunes: Sequence[TunePlan]) -> Mapping[str, Tuning]:
    """By the key of a site; what is not there has the general tuning."""
    return {key: tune.tuning for tune in tunes for key in tune.sites}


def tunings_by_node(core: PlanCore) -> Mapping[str, Tuning]:
    """By the name of a site's node; what is not there has ``core.tuning``."""
    nodes = {site.key: site.node for site in core.sites}
    return {nodes[key]: tune.tuning for tune in core.tunes for key in tune.sites}

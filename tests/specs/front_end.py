"""The front end as one function; the only place of the specs that knows where its parts live."""

from collections.abc import Sequence

from torch import fx

from qcompile.analysis.context import Context
from qcompile.analysis.rules.group_size import group_size
from qcompile.analysis.rules.no_weight import no_weight
from qcompile.analysis.rules.tied_weights import tied_weights
from qcompile.diagnostics.diagnostic import Diagnostic, has_errors
from qcompile.diagnostics.source import Source
from qcompile.policy.assertion import Measured, check_assertions, check_limits
from qcompile.policy.blocks import named_blocks
from qcompile.policy.executable import not_executable
from qcompile.policy.imports import StoredTexts
from qcompile.policy.lower import lower
from qcompile.policy.recipe import Recipe
from qcompile.policy.resolution import Decision, Resolution
from qcompile.policy.resolve import resolve
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.site import Kind, Parameter, Site
from qcompile.policy.size import weight_bytes
from qcompile.syntax.parse import parse
from qcompile.syntax.suppressions import apply_suppressions
from tests.specs.spec_libraries import LIBRARIES

__all__ = ["Kind", "Parameter", "Site", "diagnose"]

FLOAT32_BYTES = 4
NO_GRAPH = fx.GraphModule({}, fx.Graph())
WEIGHT_RULES = (group_size, tied_weights, no_weight)
"""The rules of the analysis that ask about sites alone, never about the graph."""


def diagnose(text: str, sites: Sequence[Site] | None = None) -> list[Diagnostic]:
    """Everything that is said of a recipe, and of its rules where there is a model."""
    source = Source("recipe", text)
    found = _diagnose(source, sites)
    judged = apply_suppressions(found, source, with_model=sites is not None)
    return list(judged.diagnostics)


def _diagnose(source: Source, sites: Sequence[Site] | None) -> list[Diagnostic]:
    file, syntax = parse(source)
    if file is None:
        return syntax
    recipe, meaning = lower(file, source, StoredTexts(LIBRARIES))
    if recipe is None or sites is None:
        return [*syntax, *meaning]
    refused = [*recipe.unavailable, *not_executable(recipe)]
    if refused:
        return [*syntax, *meaning, *refused]
    return [*syntax, *meaning, *_bound(recipe, sites)]


def _bound(recipe: Recipe, sites: Sequence[Site]) -> list[Diagnostic]:
    resolution, rules = resolve(recipe, sites)
    blocks, partition = named_blocks(recipe, sites)
    if has_errors(rules):
        return [*rules, *partition]
    context = Context(recipe, NO_GRAPH, tuple(sites), resolution)
    weights = [item for rule in WEIGHT_RULES for item in rule(context)]
    measured = Measured(_bytes(resolution), tuple(block.sites for block in blocks))
    claims = check_assertions(recipe.assertions, sites, resolution, measured)
    limits = check_limits(recipe.budget, sites, resolution, measured)
    return [*rules, *partition, *weights, *claims, *limits]


def _bytes(resolution: Resolution) -> int:
    """Of the weights alone: the models of the specs have no other tensors."""
    return sum(_weight_bytes(decision) for decision in resolution.decisions)


def _weight_bytes(decision: Decision) -> int:
    weight, slot = decision.site.weight, decision.slots["weight"]
    if weight is None:
        return 0
    if isinstance(slot, QuantSlot):
        return weight_bytes(slot, weight.shape, decision.site.output_axis)
    return FLOAT32_BYTES * decision.site.params

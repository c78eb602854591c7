"""Which layers a recipe rotates, and in what blocks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import fx, nn

from qcompile.analysis.own_parameters import OwnParameters
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.driver.nothing_to_prepare import nothing_to_prepare
from qcompile.passes.pipeline import run_passes
from qcompile.passes.rotate import Rotate
from qcompile.policy.core import ParameterPlan, TransformPlan
from qcompile.policy.lower_prepare import ROTATE
from qcompile.policy.recipe import Recipe
from qcompile.policy.resolution import Resolution
from qcompile.policy.selection import Selection
from qcompile.policy.site import Site
from qcompile.policy.unmatched import unmatched_patterns

BLOCK = 128
"""Where a recipe does not say, the largest power of two up to this that divides the inputs."""
PLACE = "quantized `nn.Linear` layers with a weight of their own and an even number of inputs"


@dataclass(frozen=True, slots=True)
class _Layer:
    """One that can be rotated."""

    node: str
    path: str
    features: int

    def block(self, asked: int | None) -> int | None:
        """``None`` where its inputs are no such blocks."""
        if asked is not None:
            return None if self.features % asked else asked
        found = min(self.features & -self.features, BLOCK)
        return found if found > 1 else None


def rotated(
    recipe: Recipe, graph: fx.GraphModule, sites: Sequence[Site], resolution: Resolution
) -> tuple[fx.GraphModule, tuple[TransformPlan, ...], list[Diagnostic]]:
    """A layer that several statements select is rotated by the first of them.

    ``sites`` are those that the recipe can select.
    """
    asked = [item for item in recipe.transforms if item.name == ROTATE]
    if not asked:
        return graph, (), []
    selection = Selection(sites)
    there = list(_layers(graph, resolution))
    blocks: dict[str, int] = {}
    problems: list[Diagnostic] = []
    for item in asked:
        chosen = None if item.selector is None else selection.of(item.selector)
        nodes = {site.node for site in sites if chosen is None or site.index in chosen}
        size = item.settings.get("block")
        found = {
            layer.path: block
            for layer in there
            if layer.node in nodes and layer.path not in blocks
            if (block := layer.block(size if isinstance(size, int) else None)) is not None
        }
        blocks |= found
        if item.selector is not None:
            problems.extend(unmatched_patterns(item.selector, selection))
        if not found:
            place = PLACE if size is None else f"{PLACE} that is a multiple of {size}"
            problems.append(nothing_to_prepare(item, place))
    result = run_passes(graph, (Rotate(blocks),)).module
    return result, tuple(_plan(path, block) for path, block in blocks.items()), problems


def _layers(graph: fx.GraphModule, resolution: Resolution) -> Iterator[_Layer]:
    """In the order of the graph; what stays in float has nothing to gain."""
    quantized = {
        decision.site.node
        for decision in resolution.decisions
        if decision.scheme is not None and not decision.is_skipped
    }
    own = OwnParameters.of(graph)
    for node, path, module in own.calls():
        if isinstance(module, nn.Linear) and node in quantized and own.has(module.weight):
            yield _Layer(node, path, module.in_features)


def _plan(path: str, block: int) -> TransformPlan:
    return TransformPlan(
        name=ROTATE,
        target=path,
        parameters=(f"{path}.weight",),
        settings=(ParameterPlan(name="block", value=block),),
    )

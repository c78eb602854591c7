"""Which layers a recipe rotates, and in what blocks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import fx, nn

from qcompile.analysis.own_parameters import OwnParameters
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.driver.nothing_to_prepare import nothing_to_prepare
from qcompile.passes.balance import balances
from qcompile.passes.pipeline import run_passes
from qcompile.passes.rotate import Rotate
from qcompile.policy.core import ParameterPlan, TransformPlan
from qcompile.policy.recipe import Recipe, Transform
from qcompile.policy.resolution import Resolution
from qcompile.policy.rotation import BALANCE, ROTATE, USUAL_BLOCK
from qcompile.policy.selection import Selection
from qcompile.policy.site import Kind, Site
from qcompile.policy.unmatched import unmatched_patterns

PLACE = (
    "quantized linear layers: an `nn.Linear` with a weight of its own, of whole blocks of inputs"
)
SHOWN = 5


@dataclass(frozen=True, slots=True)
class _Layer:
    """A quantized linear layer of the recipe; ``features`` is 0 where it cannot be rotated."""

    path: str
    features: int

    def block(self, asked: int | None) -> int | None:
        """``None`` where its inputs are no such blocks."""
        if asked is not None:
            return None if self.features % asked else asked
        found = min(self.features & -self.features, USUAL_BLOCK)
        return found if found > 1 else None


def with_rotations(
    recipe: Recipe, graph: fx.GraphModule, sites: Sequence[Site], resolution: Resolution
) -> tuple[fx.GraphModule, tuple[TransformPlan, ...], list[Diagnostic]]:
    """A layer that several statements select is rotated by the first of them.

    ``sites`` are those that the recipe can select.
    """
    asked = [item for item in recipe.transforms if item.name == ROTATE]
    if not asked:
        return graph, (), []
    selection = Selection(sites)
    layers = dict(_layers(graph, sites, resolution))
    blocks: dict[str, int] = {}
    balanced: set[str] = set()
    problems: list[Diagnostic] = []
    for item in asked:
        chosen = None if item.selector is None else selection.of(item.selector)
        wanted = [one for at, one in layers.items() if chosen is None or at in chosen]
        found, left = _divided(item, wanted, blocks)
        unmatched = list(unmatched_patterns(item.selector, selection)) if item.selector else []
        problems += unmatched
        if found:
            problems.extend(_not_rotated(item, left))
        elif not unmatched:
            problems.append(_idle(item, left, is_late=len(left) < len(wanted)))
        blocks |= found
        balanced |= found.keys() if item.settings.get(BALANCE) is True else set()
    result = run_passes(graph, (Rotate(blocks, frozenset(balanced)),)).module
    rewritten = _rewritten(result)
    plans = tuple(_plan(path, block, rewritten.get(path)) for path, block in blocks.items())
    return result, plans, problems


def _rewritten(graph: fx.GraphModule) -> dict[str, tuple[str, ...]]:
    """What balances rewrite beside weights, by the path of each layer that reads one."""
    own = OwnParameters.of(graph)
    biases = {
        path: (f"{path}.bias",)
        for _, path, module in own.calls()
        if isinstance(module, nn.Linear) and own.has(module.bias)
    }
    return {
        path: (*biases.get(path, ()), f"{place.balance}.shift", f"{place.balance}.gain")
        for place in balances(graph)
        for path in place.readers
    }


def _divided(
    item: Transform, layers: Sequence[_Layer], done: Mapping[str, int]
) -> tuple[dict[str, int], list[_Layer]]:
    """The layers with their blocks, and those that have none; ``done`` ones are in neither."""
    size = item.settings.get("block")
    asked = size if isinstance(size, int) else None
    found: dict[str, int] = {}
    left: list[_Layer] = []
    for layer in layers:
        if layer.path in done:
            continue
        block = layer.block(asked) if layer.features else None
        if block is None:
            left.append(layer)
        else:
            found[layer.path] = block
    return found, left


def _layers(
    graph: fx.GraphModule, sites: Sequence[Site], resolution: Resolution
) -> Iterator[tuple[int, _Layer]]:
    """By the index of the site, each path once."""
    own = OwnParameters.of(graph)
    alone = {
        path: module.in_features
        for _, path, module in own.calls()
        if isinstance(module, nn.Linear) and own.has(module.weight)
    }
    quantized = {d.site.index for d in resolution.decisions if any(d.quantized)}
    seen: set[str] = set()
    for site in sites:
        if site.kind is Kind.LINEAR and site.index in quantized and site.path not in seen:
            seen.add(site.path)
            yield site.index, _Layer(site.path, alone.get(site.path, 0))


def _plan(path: str, block: int, rewritten: tuple[str, ...] | None) -> TransformPlan:
    """``rewritten`` with the weight, where channels are balanced."""
    balance = () if rewritten is None else (ParameterPlan(name=BALANCE, value=True),)
    return TransformPlan(
        name=ROTATE,
        target=path,
        parameters=(f"{path}.weight", *(rewritten or ())),
        settings=(*balance, ParameterPlan(name="block", value=block)),
    )


def _idle(item: Transform, left: Sequence[_Layer], *, is_late: bool) -> Diagnostic:
    """QR532."""
    if is_late:
        return nothing_to_prepare(item, "layers that no `prepare rotate` above has rotated")
    shown = ", ".join(f"`{layer.path}`" for layer in left[:SHOWN])
    return nothing_to_prepare(item, PLACE + (f"; not for {shown}" if shown else ""))


def _not_rotated(item: Transform, left: Sequence[_Layer]) -> Iterator[Diagnostic]:
    """QR533."""
    if left:
        more = (f"and {len(left) - SHOWN} more",) if len(left) > SHOWN else ()
        yield Diagnostic(
            Code.NOT_ROTATED,
            f"`prepare rotate` leaves {len(left)} of the layers that it is for as they are",
            Label(item.span),
            notes=(*(f"`{layer.path}`" for layer in left[:SHOWN]), *more, f"it is for {PLACE}"),
            help="select the others with `for`, or give a smaller `block`",
        )

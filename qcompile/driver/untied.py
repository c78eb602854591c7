"""Which layers a recipe gives a weight of their own, in a model where several read one."""

from collections.abc import Iterator, Sequence

from torch import fx

from qcompile.capture.tensors import tensor_paths
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.passes.pipeline import run_passes
from qcompile.passes.untie import Untie, tied_paths
from qcompile.policy.core import UNTIE, TransformPlan
from qcompile.policy.resolution import Decision, Resolution
from qcompile.policy.unavailable import not_available


def with_own_weights(
    graph: fx.GraphModule, resolution: Resolution
) -> tuple[fx.GraphModule, tuple[TransformPlan, ...], list[Diagnostic]]:
    """``graph`` with a copy for each layer that is untied, and what the plan says of it.

    Where all that read a weight are untied, the first keeps it.
    """
    untied = {
        one.site.weight.path: one
        for one in resolution.decisions
        if one.untied is not None and one.site.weight is not None
    }
    if not untied:
        return graph, (), []
    problems = list(_read_again(resolution, untied))
    if problems:
        return graph, (), problems
    copied: list[str] = []
    for paths in tied_paths(graph).values():
        alone = [path for path in paths if path in untied]
        copied += alone if len(alone) < len(paths) else alone[1:]
    plans = (
        TransformPlan(name=UNTIE, target=untied[path].site.path, parameters=(path,))
        for path in copied
    )
    made = run_passes(graph, (Untie(frozenset(copied)),)).module
    return made, tuple(plans), []


def still_there(
    copies: Sequence[TransformPlan], graph: fx.GraphModule
) -> tuple[TransformPlan, ...]:
    """Without those that were folded into another layer."""
    paths = tensor_paths(graph)
    return tuple(one for one in copies if paths.issuperset(one.parameters))


def _read_again(resolution: Resolution, untied: dict[str, Decision]) -> Iterator[Diagnostic]:
    """Calls of one module, or functions that read its parameter: they have one name for it."""
    counts: dict[str, list[str]] = {}
    for one in resolution.decisions:
        if one.site.weight is not None and one.site.weight.path in untied:
            counts.setdefault(one.site.weight.path, []).append(one.site.key)
    for path, keys in counts.items():
        rule = untied[path].untied
        if len(keys) > 1 and rule is not None:
            what = f"`set untie` of `{path}`, which is read more than once under this name,"
            way_out = "give each call a module of its own in the model, or all of them one scheme"
            yield not_available(what, rule.span, way_out)

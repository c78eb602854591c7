"""The path and call by which the language names each site."""

from collections import Counter
from dataclasses import dataclass

from torch import fx

from qcompile.capture.node_meta import call_name, facts
from qcompile.capture.operands import site_kind, weights_of
from qcompile.capture.operations import bare_name
from qcompile.policy.site import Kind

JOINS: tuple[Kind, ...] = (Kind.ADD, Kind.MUL)
"""Kinds that are sites only where two tensors meet: ``x + 1`` is not one."""


@dataclass(frozen=True, slots=True)
class Place:
    """``path@call``."""

    path: str
    call: int


def places_of(module: fx.GraphModule, main: frozenset[fx.Node]) -> dict[fx.Node, Place]:
    """Every node that is a site, with a path and a call that no other has."""
    taken = {path for path, _ in module.named_modules()}
    ordinals: Counter[tuple[str, int, str]] = Counter()
    next_call = _calls_of_leaves(module)
    places: dict[fx.Node, Place] = {}
    for node in module.graph.nodes:
        if node not in main or not _is_site(node, module):
            continue
        weight = weights_of(node, module).weight
        if node.op == "call_module":
            places[node] = Place(str(node.target), facts(node).call)
        elif weight is not None:
            path = weight.removesuffix(".weight")
            places[node] = Place(path, next_call[path])
            next_call[path] += 1
            while call_name(path, next_call[path]) in taken:
                next_call[path] += 1
        else:
            places[node] = _operation_place(node, ordinals, taken)
    return places


def _calls_of_leaves(module: fx.GraphModule) -> Counter[str]:
    """How many numbers the calls of each leaf take; a function of its weight counts on from there.

    So a call has one number, whether or not others read the weight before it.
    """
    last: Counter[str] = Counter()
    for node in module.graph.find_nodes(op="call_module"):
        path = str(node.target)
        last[path] = max(last[path], facts(node).call + 1)
    return last


def _operation_place(
    node: fx.Node, ordinals: Counter[tuple[str, int, str]], taken: set[str]
) -> Place:
    """``layers.0.add``; ``layers.0.add_1`` for the second in the same call of ``layers.0``."""
    stack = facts(node).stack
    scope, call = (stack[-1].path, stack[-1].call) if stack else ("", 0)
    name = bare_name(node)
    base = f"{scope}.{name}" if scope else name
    while True:
        ordinal = ordinals[scope, call, name]
        ordinals[scope, call, name] += 1
        path = f"{base}_{ordinal}" if ordinal else base
        if path not in taken:
            return Place(path, call)


def _is_site(node: fx.Node, module: fx.GraphModule) -> bool:
    kind = site_kind(node, module)
    if kind is None or not facts(node).is_float:
        return False
    return kind not in JOINS or sum(facts(item).is_float for item in _tensors(node)) > 1


def _tensors(node: fx.Node) -> list[fx.Node]:
    """Input nodes as often as they are read, so that ``x * x`` has two."""
    return [item for item in (*node.args, *node.kwargs.values()) if isinstance(item, fx.Node)]

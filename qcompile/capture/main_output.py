"""The output of a network that metrics and losses look at, where it has several."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from torch import fx


def main_output(value: object) -> fx.Node | None:
    """The node of the output that metrics look at: ``logits`` of a mapping, else the first."""
    if isinstance(value, fx.Node):
        return value
    if isinstance(value, Mapping):
        named = cast("Mapping[object, object]", value)
        return main_output(named["logits"]) if "logits" in named else _first(named.values())
    if isinstance(value, list | tuple):
        return _first(cast("Sequence[object]", value))
    return None


def _first(values: Iterable[object]) -> fx.Node | None:
    found = (main_output(value) for value in values)
    return next((node for node in found if node is not None), None)

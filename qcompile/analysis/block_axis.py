"""Along which axis of an operand the blocks of a format lie: the one that is summed over."""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from torch import fx

from qcompile.capture.node_meta import facts
from qcompile.capture.operations import written_name
from qcompile.policy.site import Kind

Axes = Mapping[int, int]
"""By place among the arguments, from the end."""

_PRODUCT: Axes = MappingProxyType({0: -1, 1: -2})
_ADDED_TO: Axes = MappingProxyType({1: -1, 2: -2})
PRODUCTS: Mapping[str, Axes] = MappingProxyType(
    {
        **dict.fromkeys(("matmul", "mm", "bmm"), _PRODUCT),
        **dict.fromkeys(("addmm", "baddbmm"), _ADDED_TO),
    }
)
ATTENTION: Axes = MappingProxyType({0: -1, 1: -1, 2: -2})
LINEAR: Axes = MappingProxyType({0: -1, 1: -1})
KEYWORDS: Mapping[str, int] = MappingProxyType({"query": 0, "key": 1, "value": 2, "input": 0})
OF_CONVOLUTION = re.compile(r"(\d)d$")


def block_axis(node: fx.Node, kind: Kind, operand: fx.Node, module: fx.GraphModule) -> int | None:
    """``None``: ``node`` sums over no axis of ``operand``, over several, or over an unknown one.

    A value that is read in two places has to be summed over along the same axis in both.
    """
    axes = _axes(written_name(node, module).rpartition(".")[2], kind)
    found = {None if place is None else axes.get(place) for place in _places(node, operand)}
    axis = found.pop() if len(found) == 1 else None
    shape = facts(operand).shape
    if axis is None or not shape:
        return None
    return -1 if len(shape) == 1 else axis


def _axes(name: str, kind: Kind) -> Axes:
    match kind:
        case Kind.LINEAR:
            return LINEAR
        case Kind.ATTENTION:
            return ATTENTION
        case Kind.MATMUL:
            return PRODUCTS.get(name, {})
        case Kind.CONV:
            return _of_convolution(name)
        case _:
            return {}


def _of_convolution(name: str) -> Axes:
    """Channels of the input, and of a weight that is computed: ``[out, in, *kernel]``."""
    found = OF_CONVOLUTION.search(name)
    if found is None:
        return {}
    channels = -1 - int(found[1])
    return {0: channels} if "transpose" in name.lower() else {0: channels, 1: channels}


def _places(node: fx.Node, operand: fx.Node) -> Iterator[int | None]:
    yield from (place for place, given in enumerate(node.args) if given is operand)
    yield from (KEYWORDS.get(name) for name, given in node.kwargs.items() if given is operand)

"""Which nodes behind an integer product the product can take over.

The order is oneDNN's: the sum with another tensor, then an activation, then the codes of the one
quantizer that reads the result. A node is taken over only where nothing else reads what it reads.
"""

import operator
from dataclasses import dataclass

import torch
from torch import fx

from qcompile.capture.node_meta import facts
from qcompile.compat.onednn_operations import onednn
from qcompile.compat.quantize_to_bytes import BYTE
from qcompile.emit.lower.kernels import quantize
from qcompile.emit.lower.layer import Layer, StaticInput
from qcompile.emit.lower.unary import Unary, unary_of

SUMS: tuple[object, ...] = (operator.add, operator.iadd, torch.add)
SUM_METHODS = frozenset({"add", "add_"})
IN_PLACE: tuple[object, ...] = (operator.iadd, "add_")


@dataclass(slots=True)
class Fusion:
    """What one kernel does; ``last`` is the node whose value it makes."""

    layer: Layer
    last: fx.Node
    other: fx.Node | None = None
    """Added to the product."""
    unary: Unary | None = None
    codes: StaticInput | None = None
    """The result is written as codes of this quantizer."""

    @property
    def names(self) -> tuple[str, ...]:
        """For people."""
        added = ("add",) if self.other is not None else ()
        unary = (self.unary.name,) if self.unary is not None else ()
        return (*added, *unary, *(("quantize",) if self.codes is not None else ()))


def fusion(module: fx.GraphModule, layer: Layer) -> Fusion:
    found = Fusion(layer, layer.node)
    _take_sum(found)
    _take_unary(module, found)
    _take_codes(found)
    return found


def _only_reader(node: fx.Node) -> fx.Node | None:
    readers = list(node.users)
    return readers[0] if len(readers) == 1 and readers[0].op != "output" else None


def _take_sum(found: Fusion) -> None:
    reader = _only_reader(found.last)
    if reader is None or len(reader.args) != 2 or reader.kwargs:
        return
    known = reader.target in SUM_METHODS if reader.op == "call_method" else reader.target in SUMS
    other = next((arg for arg in reader.args if arg is not found.last), None)
    if not known or not isinstance(other, fx.Node):
        return
    if reader.target in IN_PLACE and reader.args[0] is not found.last:
        return  # it would write to the other tensor, which others may read
    is_conv = found.layer.conv is not None
    if _same_form(found.last, other) and (not is_conv or _may_be_overwritten(other, reader)):
        found.other, found.last = other, reader


def _same_form(mine: fx.Node, other: fx.Node) -> bool:
    ours, theirs = facts(mine), facts(other)
    known = ours.shape is not None and ours.shape == theirs.shape
    return known and ours.dtype == theirs.dtype == "float32"


def _may_be_overwritten(other: fx.Node, reader: fx.Node) -> bool:
    """``other`` is memory of its own, made by a kernel, and ``reader`` is the last to look at it.

    The sum of a convolution is written over the tensor that is added: were that an input of the
    model, a view of one, or read again later, the model would compute nonsense.
    """
    names = onednn()
    if names is None or other.target not in (names.conv2d, names.conv2d_add):
        return False
    return all(
        user is reader or (user.target is quantize and user < reader) for user in other.users
    )


def _take_unary(module: fx.GraphModule, found: Fusion) -> None:
    reader = _only_reader(found.last)
    if reader is None or reader.args[:1] != (found.last,):
        return
    unary = unary_of(module, reader, found.layer.conv is not None)
    if unary is not None:
        found.unary, found.last = unary, reader


def _take_codes(found: Fusion) -> None:
    """Not behind a sum: oneDNN wants the tensor that is added in the type of the result."""
    reader = _only_reader(found.last)
    if reader is None or reader.target is not quantize or found.other is not None:
        return
    _, scale, zero_point, top = reader.args
    assert isinstance(scale, float)
    assert isinstance(zero_point, int)
    assert isinstance(top, int)
    if top == BYTE[1]:
        found.codes, found.last = StaticInput(scale, zero_point, top), reader

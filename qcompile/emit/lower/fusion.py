"""Which nodes behind an integer product the product can take over.

The order is oneDNN's: the sum with another tensor, then an activation, then the codes of the one
quantizer that reads the result. A node is taken over only where nothing else reads what it reads.
"""

import operator
from collections.abc import Collection
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.capture.node_meta import facts
from qcompile.compat.quantize_to_bytes import BYTE
from qcompile.emit.lower.code_sums import add_codes
from qcompile.emit.lower.kernels import quantize
from qcompile.emit.lower.layer import Layer, StaticInput
from qcompile.emit.lower.overwriting import codes_may_be_overwritten, may_be_overwritten
from qcompile.emit.lower.sums import is_written_over, terms_of_sum
from qcompile.emit.lower.unary import Unary, unary_of

PRODUCTS: tuple[object, ...] = (operator.mul, operator.imul, torch.mul)
PRODUCT_METHODS = frozenset({"mul", "mul_"})
BEHIND_SUMS = frozenset({"relu"})
"""All that oneDNN's products with a sum take (torch 2.13); others are errors when they run."""


@dataclass(slots=True)
class Fusion:
    """What one kernel does; ``last`` is the node whose value it makes."""

    layer: Layer
    last: fx.Node
    gain: Tensor | None = None
    """``[out]``: the product is multiplied by it."""
    other: fx.Node | None = None
    """Added to the product."""
    sum: fx.Node | None = None
    """What adds it; where that is ``add_codes``, the result is codes, too, written over it."""
    in_place: bool = False
    """The sum is written over it: all that oneDNN's convolution can do."""
    unary: Unary | None = None
    codes: StaticInput | None = None
    """The result is written as codes of this quantizer."""

    @property
    def place(self) -> fx.Node:
        """Where the kernel runs: no earlier than what is added, no later than it has to."""
        return self.sum or self.layer.node

    @property
    def code_sum(self) -> fx.Node | None:
        return self.sum if self.sum is not None and self.sum.target is add_codes else None

    @property
    def names(self) -> tuple[str, ...]:
        """For people."""
        scaled = ("scale",) if self.gain is not None else ()
        added = ("add",) if self.other is not None else ()
        unary = (self.unary.name,) if self.unary is not None else ()
        return (*scaled, *added, *unary, *(("quantize",) if self.codes is not None else ()))


def fusion(
    module: fx.GraphModule,
    layer: Layer,
    pending: Collection[fx.Node] = (),
    *,
    gain_alone: bool = False,
) -> Fusion:
    """With ``gain_alone`` nothing else is taken over: a gain goes into factor and bias.

    ``pending`` are the products that have no kernel yet, this one included: a sum may move them.
    """
    found = Fusion(layer, layer.node)
    _take_gain(module, found)
    if gain_alone:
        return found
    with_codes = _with_code_sum(module, found, pending)
    if with_codes is not None:
        return with_codes
    _take_sum(module, found, pending)
    _take_unary(module, found)
    if found.other is None:  # oneDNN wants what is added in the type of the result
        _take_codes(found)
    return found


def _only_reader(node: fx.Node) -> fx.Node | None:
    readers = list(node.users)
    return readers[0] if len(readers) == 1 and readers[0].op != "output" else None


def _take_gain(module: fx.GraphModule, found: Fusion) -> None:
    """A constant factor for each output, as a LayerScale is: it goes into scales and bias."""
    reader = _only_reader(found.last)
    if reader is None or len(reader.args) != 2 or reader.kwargs:
        return
    methods = PRODUCT_METHODS if reader.op == "call_method" else PRODUCTS
    factor = next((arg for arg in reader.args if arg is not found.last), None)
    if reader.target not in methods or not isinstance(factor, fx.Node) or factor.op != "get_attr":
        return
    values = cast("Tensor", attrgetter(str(factor.target))(module))
    outputs = found.layer.weight.codes.shape[0]
    form = (outputs,) if found.layer.conv is None else (outputs, 1, 1)
    if found.layer.has_computed_bias or values.dtype is not torch.float32:
        return
    is_per_output = values.shape[-len(form) :] == form and values.numel() == outputs
    if is_per_output and values.dim() <= len(facts(found.last).shape or ()):
        found.gain, found.last = values.detach().reshape(-1), reader


def _take_sum(module: fx.GraphModule, found: Fusion, pending: Collection[fx.Node]) -> None:
    reader = _only_reader(found.last)
    terms = None if reader is None else terms_of_sum(reader)
    if reader is None or terms is None:
        return
    other = next((term for term in terms if term is not found.last), None)
    if other is None or is_written_over(reader, other):  # others may read it
        return
    if not _same_form(found.last, other):
        return
    is_conv = found.layer.conv is not None
    in_place = may_be_overwritten(module, other, reader, is_conv, pending)
    if in_place or not is_conv:
        found.other, found.in_place, found.sum, found.last = other, in_place, reader, reader


def _with_code_sum(
    module: fx.GraphModule, before: Fusion, pending: Collection[fx.Node]
) -> Fusion | None:
    """A shortcut of codes, where the sum becomes codes: one kernel does all of it, or none."""
    reader = _only_reader(before.last)
    if reader is None or reader.target is not add_codes or before.layer.conv is None:
        return None
    product, codes, *_ = reader.args
    if product is not before.last or not isinstance(codes, fx.Node):
        return None
    found = replace(before, last=reader, sum=reader, other=codes, in_place=True)
    _take_unary(module, found)
    _take_codes(found)
    may_write = codes_may_be_overwritten(module, codes, reader, pending)
    return found if found.codes is not None and may_write else None


def _same_form(mine: fx.Node, other: fx.Node) -> bool:
    ours, theirs = facts(mine), facts(other)
    known = ours.shape is not None and ours.shape == theirs.shape
    return known and ours.dtype == theirs.dtype == "float32"


def _take_unary(module: fx.GraphModule, found: Fusion) -> None:
    reader = _only_reader(found.last)
    if reader is None or reader.args[:1] != (found.last,):
        return
    unary = unary_of(module, reader, found.layer.conv is not None)
    if unary is not None and (found.other is None or unary.name in BEHIND_SUMS):
        found.unary, found.last = unary, reader


def _take_codes(found: Fusion) -> None:
    reader = _only_reader(found.last)
    if reader is None or reader.target is not quantize:
        return
    _, scale, zero_point, top, _ = reader.args
    assert isinstance(scale, float)
    assert isinstance(zero_point, int)
    assert isinstance(top, int)
    if top == BYTE[1]:
        found.codes, found.last = StaticInput(scale, zero_point, top), reader

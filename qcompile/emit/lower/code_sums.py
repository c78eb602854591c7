"""Additions of images of which one operand is on a grid: a float tensor plus codes.

A shortcut in eight bits is one: a convolution of oneDNN adds the codes to its product, and writes
codes over them (``fusion``). Where it does not, and in the simulation, ``add_codes`` does the same
arithmetic.
"""

from typing import cast

from torch import Tensor, fx

from qcompile.capture.memory import makes_memory
from qcompile.capture.node_meta import facts
from qcompile.compat.onednn_operations import Operation
from qcompile.emit.lower.counterpart import Counterpart, set_counterpart
from qcompile.emit.lower.layer import StaticInput, quantizer_of
from qcompile.emit.lower.rewriting import Rewriting
from qcompile.emit.lower.sums import is_written_over, terms_of_sum

IMAGE_AXES = 4


def add_codes(x: Tensor, codes: Tensor, scale: float, zero_point: int) -> Tensor:
    """``x + (codes - zero_point) * scale``, in one rounding: oneDNN has a fused multiplication."""
    steps = codes.double() - zero_point
    return steps.mul_(scale).add_(x).to(x.dtype)


def make_code_sums(rewriting: Rewriting, quantize: Operation, *rest: object) -> None:
    """Replace all of them. ``quantize`` makes the codes, and is given ``rest`` behind the grid."""
    for node in list(rewriting.graph.nodes):
        found = _code_sum(rewriting.module, node)
        if found is None:
            continue
        x, quantized, grid = found
        source = cast("fx.Node", quantized.args[0])
        given = (source, grid.scale, grid.zero_point, grid.top, *rest)
        with rewriting.graph.inserting_before(node):
            codes = rewriting.call_once(quantize, *given)
            set_counterpart(codes, Counterpart(quantized.name, grid))
            made = rewriting.call(add_codes, x, codes, grid.scale, grid.zero_point)
        rewriting.replace(node, made)


def _code_sum(module: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, fx.Node, StaticInput] | None:
    """What is added to, what is added, and the grid of that."""
    terms = terms_of_sum(node)
    if terms is None:
        return None
    first, second = terms
    (source, here), (other, there) = (quantizer_of(module, term) for term in terms)
    if not _are_images(source, other):
        return None
    if is_written_over(node, first) and not _is_its_own(module, first, node):
        return None
    match here, there:
        case None, StaticInput():
            return first, second, there
        case StaticInput(), None:
            return second, first, here
        case _:
            return None


def _are_images(first: fx.Node, second: fx.Node) -> bool:
    ours, theirs = facts(first), facts(second)
    same = ours.shape == theirs.shape and ours.dtype == theirs.dtype == "float32"
    return same and len(ours.shape or ()) == IMAGE_AXES


def _is_its_own(module: fx.GraphModule, term: fx.Node, reader: fx.Node) -> bool:
    """Whether nobody sees that ``term`` is not written over any more."""
    return list(term.users) == [reader] and makes_memory(module, term)

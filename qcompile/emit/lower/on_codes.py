"""Padding and maximum pooling done on codes, behind the quantizer instead of in front of it.

Both only choose among the numbers that they read, and rounding to a grid keeps the order of
numbers: the codes are the same, a quarter of the bytes moves, and the quantizer comes next to the
product that makes its input, which then writes codes itself.
"""

from dataclasses import dataclass
from typing import cast

from torch import fx, nn
from torch.fx.node import Argument
from torch.nn import functional

from qcompile.capture.operations import bare_name
from qcompile.emit.lower.kernels import max_pool_codes, pad_codes, quantize
from qcompile.emit.lower.rewriting import Rewriting

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Pad:
    amounts: tuple[int, ...]
    """As ``F.pad`` takes them; with zeros."""


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Of images: numbers along the height and along the width."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair


def quantize_earlier(rewriting: Rewriting, quantizer: fx.Node) -> None:
    """Move ``quantizer`` in front of every such operation whose result it alone reads."""
    while True:
        source, *grid = quantizer.args
        assert isinstance(source, fx.Node)
        operation = _operation(rewriting.module, source)
        if operation is None or list(source.users) != [quantizer]:
            return
        with rewriting.graph.inserting_before(source):
            codes = rewriting.call(quantize, source.args[0], *grid)
        with rewriting.graph.inserting_before(quantizer):
            match operation:
                case Pad():
                    made = rewriting.call(pad_codes, codes, operation.amounts, grid[1])
                case MaxPool(kernel, stride, padding, dilation):
                    rest = (kernel, stride, padding, dilation)
                    made = rewriting.call(max_pool_codes, codes, *rest)
        rewriting.replace(quantizer, made)
        quantizer = codes


def _operation(module: fx.GraphModule, node: fx.Node) -> Pad | MaxPool | None:
    if node.op == "call_module":
        return _of_module(module.get_submodule(str(node.target)))
    if len(node.all_input_nodes) > 1:
        return None  # sizes that the graph computes
    if node.target is functional.pad:
        given = dict(zip(("pad", "mode", "value"), node.args[1:], strict=False)) | node.kwargs
        is_zero = given.get("mode", "constant") == "constant" and not given.get("value")
        return Pad(tuple(cast("tuple[int, ...]", given["pad"]))) if is_zero else None
    if bare_name(node) == "max_pool2d":
        return _max_pool(node.args[1:], dict(node.kwargs))
    return None


def _of_module(leaf: nn.Module) -> Pad | MaxPool | None:
    match leaf:
        case nn.ZeroPad2d():
            return Pad(tuple(leaf.padding))
        case nn.MaxPool2d(return_indices=False, ceil_mode=False):
            sizes = (leaf.kernel_size, leaf.stride, leaf.padding, leaf.dilation)
            return MaxPool(*map(_pair, sizes))
        case _:
            return None


def _max_pool(args: tuple[Argument, ...], kwargs: dict[str, Argument]) -> MaxPool | None:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given = dict(zip(names, args, strict=False)) | kwargs
    if given.pop("ceil_mode", False) or given.pop("return_indices", False):
        return None
    kernel = given["kernel_size"]
    sizes = (kernel, given.get("stride") or kernel, given.get("padding", 0))
    return MaxPool(*map(_pair, (*sizes, given.get("dilation", 1))))


def _pair(size: object) -> Pair:
    if isinstance(size, int):
        return size, size
    sizes = tuple(cast("tuple[int, ...]", size))
    return sizes[0], sizes[-1]

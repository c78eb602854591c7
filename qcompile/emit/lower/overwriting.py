"""Which tensors a product may write its sum over, instead of into memory of its own.

Were such a tensor an input of the model, a view of one, or read again later, the model would
compute nonsense.
"""

from collections.abc import Collection

from torch import fx, nn

from qcompile.capture.memory import makes_memory
from qcompile.compat.onednn_operations import onednn
from qcompile.emit.lower.kernels import max_pool_codes, quantize, with_rows_of

POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def may_be_overwritten(
    module: fx.GraphModule,
    other: fx.Node,
    reader: fx.Node,
    is_conv: bool,
    pending: Collection[fx.Node],
) -> bool:
    """``other`` is memory of its own, and ``reader`` is the last to look at it.

    ``pending`` are products without a kernel yet, the one that would write among them.

    For a linear layer that has to be the result of one: oneDNN writes nonsense over rows that do
    not lie one behind the other (torch 2.13).
    """
    names = onednn()
    assert names is not None
    linear = (names.linear, names.linear_add, with_rows_of)
    results = (names.conv2d, names.conv2d_add) if is_conv else linear
    is_own = other.target in results or (is_conv and _is_pool(module, other))
    return is_own and not _is_read_behind(module, other, reader, pending)


def codes_may_be_overwritten(
    module: fx.GraphModule, codes: fx.Node, reader: fx.Node, pending: Collection[fx.Node]
) -> bool:
    """The same of the codes of images, which these operations put into memory of their own."""
    names = onednn()
    assert names is not None
    is_own = codes.target in (names.conv2d, names.conv2d_add, quantize) or (
        codes.target is max_pool_codes and codes.args[1] != (1, 1)
    )
    return is_own and not _is_read_behind(module, codes, reader, pending)


def _is_read_behind(
    module: fx.GraphModule, node: fx.Node, reader: fx.Node, pending: Collection[fx.Node]
) -> bool:
    """Whether ``node``, or what may be a view of it, is read behind ``reader``.

    What is pending may be: with a sum its kernel runs where the sum is.
    """
    views, seen = [node], {reader}
    while views:
        for user in views.pop().users:
            if user in seen:
                continue
            if user > reader or user in pending:
                return True
            seen.add(user)
            if not _makes_memory(module, user):
                views.append(user)
    return False


def _makes_memory(module: fx.GraphModule, node: fx.Node) -> bool:
    """A product without a sum does, too: with one it may write over what it reads."""
    names = onednn()
    is_product = names is not None and node.target in (names.conv2d, names.linear)
    return is_product or makes_memory(module, node)


def _is_pool(module: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), POOLS)

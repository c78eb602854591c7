"""Which nodes are the sum of two tensors, however it is written."""

import operator

import torch
from torch import fx

SUMS: tuple[object, ...] = (operator.add, operator.iadd, torch.add)
SUM_METHODS = frozenset({"add", "add_"})
IN_PLACE: tuple[object, ...] = (operator.iadd, "add_")


def terms_of_sum(node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """``None`` for what is no such sum, or has a factor."""
    known = node.target in SUM_METHODS if node.op == "call_method" else node.target in SUMS
    if not known or node.kwargs or len(node.args) != 2:
        return None
    first, second = node.args
    return (first, second) if isinstance(first, fx.Node) and isinstance(second, fx.Node) else None


def is_written_over(node: fx.Node, term: fx.Node) -> bool:
    """Whether the sum is written over ``term``."""
    return node.target in IN_PLACE and node.args[0] is term

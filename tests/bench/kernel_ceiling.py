"""What a chain of oneDNN's products takes by itself: no lowering of a model can be faster.

The products of a lowered graph, one behind the other, on the codes that they get there, in the
cheapest form that oneDNN has: packed weights, codes out, nothing added. What stands between them
(sums, norms, attention, pools) is left out.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.compat.onednn_operations import OneDnn, Operation, onednn

OPERANDS = 6
"""Codes, their scale and zero point, packed weight, its scales and zero points."""
WEIGHT = 3
CODES_OUT = (0.05, 0, torch.uint8, "relu", [], "")
"""Any scale: the time does not depend on it."""


@dataclass(frozen=True, slots=True)
class Products:
    """A call and its arguments, in the order of the graph."""

    calls: tuple[tuple[Operation, tuple[object, ...]], ...]

    def __call__(self) -> None:
        for function, arguments in self.calls:
            function(*arguments)

    def multiplications(self) -> int:
        """Of all products, once: outputs times the inputs of one."""
        made = ((cast("Tensor", f(*a)), cast("Tensor", a[WEIGHT])) for f, a in self.calls)
        return sum(y.numel() * (w.numel() // y.shape[1 if y.dim() == 4 else -1]) for y, w in made)


def products(module: fx.GraphModule, x: Tensor) -> Products | None:
    """``None`` where the graph has no integer product."""
    names = onednn()
    if names is None:
        return None
    seen = _Products(module, names)
    with torch.no_grad():
        seen.run(x)
    return Products(tuple(seen.calls)) if seen.calls else None


class _Products(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, names: OneDnn) -> None:
        super().__init__(module)
        self.names = names
        self.calls: list[tuple[Operation, tuple[object, ...]]] = []

    def run_node(self, n: fx.Node) -> object:
        names = self.names
        is_added = n.target in (names.conv2d_add, names.linear_add)
        if is_added or n.target in (names.conv2d, names.linear):
            given, _ = self.fetch_args_kwargs_from_env(n)
            arguments = cast("tuple[object, ...]", given)
            bias, *shape = arguments[OPERANDS + is_added :]
            is_conv = n.target in (names.conv2d, names.conv2d_add)
            kept = (*arguments[:OPERANDS], bias, *(shape[:4] if is_conv else ()))
            self.calls.append((names.conv2d if is_conv else names.linear, (*kept, *CODES_OUT)))
        return super().run_node(n)

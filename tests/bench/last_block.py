"""How far a model's last block is off on images that took no part in the calibration."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.capture.unit import Unit


class _Until(fx.Interpreter):
    """Runs a graph as far as one of its nodes."""

    def __init__(self, module: fx.GraphModule, name: str) -> None:
        super().__init__(module)
        self._wanted = name
        self._found: Tensor | None = None

    def run_node(self, n: fx.Node) -> object:
        if self._found is not None:
            return None
        value = super().run_node(n)
        if n.name == self._wanted:
            self._found = cast("Tensor", value).float()
        return value

    def value(self, batch: Tensor) -> Tensor:
        self._found = None
        self.run(batch)
        assert self._found is not None, f"no node `{self._wanted}`"
        return self._found


def last_block(units: Iterable[Unit]) -> str:
    """The node that makes the output of the last block."""
    blocks = [unit for unit in units if unit.is_block]
    return blocks[-1].outputs[-1]


@torch.inference_mode()
def block_error(
    plain: fx.GraphModule, quantized: fx.GraphModule, node: str, batches: Iterable[Tensor]
) -> float:
    """``sum |q - f|^2 / sum |f|^2`` of the node's value; it has its name in both graphs."""
    of_float, of_quantized = _Until(plain, node), _Until(quantized, node)
    distance = power = 0.0
    for batch in batches:
        target = of_float.value(batch)
        found = of_quantized.value(batch)
        distance += float((found - target).square().sum(dtype=torch.float64))
        power += float(target.square().sum(dtype=torch.float64))
    return distance / power

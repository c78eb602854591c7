"""How large the inputs of a block's layers are, one number for each weight that they meet."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from qcompile.passes.block import Block, Choice
from qcompile.passes.layer_form import layer_form
from qcompile.passes.sweep_node import occurrences
from qcompile.quant.geometry import Dense, rows, weight_of_rows, weight_rows


@torch.no_grad()
def input_sizes(block: Block, choice: Choice, numbers: Sequence[int]) -> dict[str, Tensor]:
    """Root mean squares in the shape of the weight, by storage; of products of rows alone.

    Of a weight that several calls share, those of the first.
    """
    sums: dict[str, Tensor] = {}
    for number in numbers:
        values = block.values(choice, block.batch(number))
        for node in block.nodes:
            site = block.sites.get(node.name)
            solved = None if site is None else site.solved
            form = layer_form(block.module, node)
            if solved is None or form is None:
                continue
            source = occurrences(node)[form.input].name
            x = cast("Tensor", values[source])
            if isinstance(form.geometry, Dense):
                x = block.padding.kept_rows(x, source, number)
            power = rows(x.float(), form.geometry).square().mean(1, keepdim=True)
            shape = tuple(solved.weight.shape)
            spread = power.expand_as(weight_rows(solved.weight, form.geometry))
            found = weight_of_rows(spread, shape, form.geometry)
            sums[solved.storage] = sums.get(solved.storage, 0) + found
    return {storage: (total / len(numbers)).sqrt() for storage, total in sums.items()}

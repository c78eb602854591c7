"""Whether padding is where it seems to be, of models that put it elsewhere."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qcompile.capture.positions import layouts
from qcompile.capture.trace import trace
from qcompile.passes.padding_probe import probe

IDS = torch.randint(1, 9, (6, 5), generator=torch.Generator().manual_seed(0))
MASK = torch.arange(5) < torch.tensor([5, 2, 3, 4, 2, 5])[:, None]


class Model(nn.Module):
    def __init__(self, forward):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.five = nn.Embedding(9, 8), nn.Linear(8, 5)
        self.first = nn.Parameter(torch.zeros(1, 1, 8))
        self.places = nn.Parameter(torch.zeros(5, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.run = forward

    def forward(self, ids, mask):
        return self.run(self, self.words(ids), mask)


def probed(forward):
    """Of the output: whether it has padding, and whether that is where it seems to be."""
    captured = trace(Model(forward).eval(), (IDS[:4], MASK[:4]), {})
    seeming = layouts(captured.module, ["ids", "mask"], captured.free_axes)
    found = probe(captured.module, {"ids": IDS, "mask": MASK}, MASK, seeming, ["ids"])
    (output,) = captured.module.graph.find_nodes(op="output")
    name = output.args[0].name
    return name in found.padded, name in found.misplaced


def attended(self, x, mask):
    return self.attention(x, x, x, key_padding_mask=~mask, need_weights=False)[0]


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x, mask: x,
        lambda self, x, mask: x.transpose(0, 1).flatten(0, 1) * 2,
        lambda self, x, mask: x + self.places,
        lambda self, x, mask: torch.cat([x, x.flip(2)], 2),
        lambda self, x, mask: x.sort(2).values,
        lambda self, x, mask: x.unflatten(-1, (2, 4)).transpose(1, 2).repeat_interleave(2, 1),
        lambda self, x, mask: F.normalize(x, dim=-1),
        attended,
    ],
)
def test_padding_that_is_where_it_seems_to_be(forward):
    assert probed(forward) == (True, False)


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x, mask: x[:, 0],
        lambda self, x, mask: self.five(x[:, 0] + self.places[0]),
        lambda self, x, mask: x[torch.arange(x.shape[0]), mask.sum(-1) - 1],
        lambda self, x, mask: (x * mask[..., None]).sum(1),
        lambda self, x, mask: attended(self, x, mask)[:, 0],
    ],
)
def test_values_that_do_not_depend_on_padding_have_none(forward):
    assert probed(forward) == (False, False)


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x, mask: x.flip(1),
        lambda self, x, mask: x.roll(1, 1),
        lambda self, x, mask: torch.cat([x[:, -1:], x[:, :-1]], 1) + self.places,
        lambda self, x, mask: x.sort(1).values,
        lambda self, x, mask: x.flip(1).chunk(2, -1)[0],
        lambda self, x, mask: x[:, x.mean((0, 2)).argsort()],
        lambda self, x, mask: x.reshape(x.shape[0], 2, x.shape[1], 4),
        lambda self, x, mask: x.reshape(x.shape[1], x.shape[0], 8),
        lambda self, x, mask: torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1),
        lambda self, x, mask: x[:, 1:],
        lambda self, x, mask: x.flatten(1),
        lambda self, x, mask: x.mean(1),
        lambda self, x, mask: x.cumsum(1).flip(1),
        lambda self, x, mask: self.five(x + self.places),  # as many features as positions
        lambda self, x, mask: F.scaled_dot_product_attention(x, x, x),
    ],
)
def test_padding_that_is_elsewhere(forward):
    assert probed(forward) == (True, True)


def test_what_comes_in_as_numbers_has_padding_too():
    class Takes(nn.Module):
        def forward(self, x, mask):
            return x * 2

    x = torch.randn(6, 5, 8)
    captured = trace(Takes().eval(), (x[:4], MASK[:4]), {})
    seeming = layouts(captured.module, ["x", "mask"], captured.free_axes)
    found = probe(captured.module, {"x": x, "mask": MASK}, MASK, seeming, ["x"])
    assert {"x", "mul"} <= found.padded
    assert not found.misplaced

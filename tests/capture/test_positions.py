"""Where the values of a captured model have samples and positions."""

import pytest
import torch
from torch import nn

from qcompile.capture.positions import Layout, layouts
from qcompile.capture.trace import trace

IDS = torch.randint(0, 9, (3, 5))


class Model(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.words = nn.Embedding(9, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16)
        self.first = nn.Parameter(torch.zeros(1, 1, 8))
        self.places = nn.Parameter(torch.zeros(5, 8))
        self.run = forward

    def forward(self, ids, mask):
        return self.run(self, self.words(ids), mask)


def found(forward, ids=IDS):
    captured = trace(Model(forward).eval(), (ids, torch.ones_like(ids)), {})
    made = layouts(captured.module, ["ids", "mask"], captured.free_axes)
    (output,) = captured.module.graph.find_nodes(op="output")
    return made.get(output.args[0].name)


@pytest.mark.parametrize(
    ("forward", "layout"),
    [
        (lambda self, x, mask: x, Layout(0, 1)),
        (lambda self, x, mask: x.transpose(0, 1), Layout(1, 0)),
        (lambda self, x, mask: x.transpose(1, 2), Layout(0, 2)),
        (lambda self, x, mask: x.unflatten(-1, (2, 4)).transpose(1, 2), Layout(0, 2)),
        (lambda self, x, mask: x.unflatten(-1, (2, 4)).permute(0, 2, 3, 1), Layout(0, 3)),
        (lambda self, x, mask: x.flatten(0, 1), Layout(0, 0)),
        (lambda self, x, mask: x.flatten(0, 1) * 2, Layout(0, 0)),
        (lambda self, x, mask: x.transpose(0, 1).flatten(0, 1), Layout(0, 0, True)),
        (lambda self, x, mask: x.transpose(0, 1).flatten(0, 1).relu(), Layout(0, 0, True)),
        (lambda self, x, mask: x @ x.transpose(1, 2), Layout(0, 1, looked_at=2)),
        (lambda self, x, mask: self.layer(x.transpose(0, 1)), Layout(1, 0)),
        (lambda self, x, mask: x.argmax(-1), Layout(0, 1)),
        (
            lambda self, x, mask: x.transpose(0, 1).reshape(x.shape[1], -1, 4).transpose(0, 1),
            Layout(0, 1, repeats=2),
        ),
        (
            lambda self, x, mask: x.unflatten(-1, (2, 4)).transpose(1, 2).flatten(0, 1) * 2,
            Layout(0, 1, repeats=2),
        ),
        (lambda self, x, mask: nn.Identity()(x) + 1, Layout(0, 1)),
        (lambda self, x, mask: torch.cat([x, x], 2).softmax(-1), Layout(0, 1)),
        (lambda self, x, mask: torch.stack([x, x]).sum(0), Layout(0, 1)),
        (lambda self, x, mask: mask.float(), Layout(0, 1)),
    ],
)
def test_axes_of_samples_and_positions(forward, layout):
    assert found(forward) == layout


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x, mask: x[:, 0],
        lambda self, x, mask: x.mean(1),
        lambda self, x, mask: x.mean((1, 2)),
        lambda self, x, mask: x.flatten(1),
        lambda self, x, mask: self.words.weight[None].expand(x.shape[1], -1, -1),
        lambda self, x, mask: torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1),
        lambda self, x, mask: x[:, 1:],
    ],
)
def test_sizes_that_are_not_those_of_positions(forward):
    assert found(forward) is None


def test_a_length_that_is_fixed_is_told_by_its_number():
    assert found(lambda self, x, mask: x + self.places) == Layout(0, 1)


def test_a_length_that_is_the_number_of_something_else_is_not_told():
    assert found(lambda self, x, mask: (x + self.places) @ self.places.t()) is None

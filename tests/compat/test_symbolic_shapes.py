import operator

import pytest
import torch
from torch import fx
from torch.nn import functional

from qcompile.compat.symbolic_shapes import (
    SymbolicShapes,
    example_size,
    is_fake,
    is_symbolic,
)


def test_only_the_named_axes_are_free():
    fake = SymbolicShapes().fake(torch.zeros(3, 4), "x", (0,))
    assert is_fake(fake)
    assert is_symbolic(fake.shape[0])
    assert fake.shape[1] == 4
    assert example_size(fake.shape[0]) == 3


def test_an_example_of_one_row_leaves_the_axis_free():
    sizes = SymbolicShapes()
    fake = sizes.fake(torch.zeros(1, 4), "x", (0,))
    assert is_symbolic(fake.shape[0])


def test_arithmetic_on_sizes_becomes_nodes():
    sizes = SymbolicShapes()
    fake = sizes.fake(torch.zeros(6, 5), "x", (0, 1))
    graph = fx.Graph()
    x = graph.placeholder("x")
    wanted = (fake.shape[0] * 3 + fake.shape[1]) // 2
    node = sizes.lower(wanted, lambda at: graph.call_method("size", (x, at.axis)))
    graph.output(node)
    run = fx.GraphModule(torch.nn.Module(), graph)
    assert run(torch.zeros(6, 5)) == (6 * 3 + 5) // 2
    assert run(torch.zeros(9, 2)) == (9 * 3 + 2) // 2


def test_a_fixed_size_lowers_to_a_number():
    sizes = SymbolicShapes()
    fake = sizes.fake(torch.zeros(6, 5), "x", (0,))
    size = fake.shape[0]
    assert operator.index(size) == 6
    assert sizes.lower(size, lambda at: None) == 6


@pytest.mark.parametrize("pad", [[0, 1, 0, 1], [0, 0, 0, 0], [-1, 0, 0, 0]], ids=str)
def test_padding_the_image_leaves_the_batch_free(pad):
    sizes = SymbolicShapes()
    fake = sizes.fake(torch.zeros(4, 3, 8, 8), "x", (0,))
    made = []
    with sizes.active(made.append):
        padded = functional.pad(fake, pad)
    assert is_symbolic(padded.shape[0])
    assert not any(decision.fixes_a_size for decision in made)

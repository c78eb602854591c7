"""Rows of inputs, weights and outputs against the layers themselves."""

import pytest
import torch
from torch.nn import functional as F

from qcompile.quant.geometry import (
    PIECE,
    ROWS_PER_INPUT,
    Convolution,
    Dense,
    output_rows,
    pieces,
    rows,
    weight_of_rows,
    weight_rows,
)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CONVOLUTIONS = [
    (Convolution((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1), (2, 4, 7, 6), (5, 4, 3, 3)),
    (Convolution((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1), (2, 4, 8, 8), (6, 4, 3, 3)),
    (Convolution((3, 3), (1, 1), ((0, 0), (0, 0)), (2, 2), 2), (2, 4, 9, 9), (6, 2, 3, 3)),
    (Convolution((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 4), (2, 4, 7, 7), (4, 1, 3, 3)),
    (Convolution((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1), (2, 4, 5, 5), (3, 4, 1, 1)),
]


@pytest.mark.parametrize(("geometry", "x_shape", "w_shape"), CONVOLUTIONS)
def test_rows_times_weight_is_the_convolution(geometry, x_shape, w_shape):
    x, w = draw(*x_shape), draw(*w_shape, seed=1)
    padding = tuple(side[0] for side in geometry.padding)
    expected = F.conv2d(x, w, None, geometry.stride, padding, geometry.dilation, geometry.groups)
    product = rows(x, geometry) @ weight_rows(w, geometry).transpose(1, 2)  # [g, b * hw, out / g]
    batch, channels, *positions = expected.shape
    found = product.reshape(geometry.groups, batch, *positions, -1)
    found = found.permute(1, 0, 4, 2, 3).reshape(batch, channels, *positions)
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.allclose(output_rows(expected, geometry), product, atol=1e-12)
    assert torch.equal(weight_of_rows(weight_rows(w, geometry), w_shape, geometry), w)


def test_rows_of_a_one_dimensional_convolution():
    geometry = Convolution((3,), (2,), ((1, 1),), (1,), 1)
    x, w = draw(2, 4, 9), draw(5, 4, 3, seed=1)
    product = (rows(x, geometry) @ weight_rows(w, geometry).transpose(1, 2)).reshape(2, 5, 5)
    assert torch.allclose(product.transpose(1, 2), F.conv1d(x, w, None, 2, 1), atol=1e-12)


@pytest.mark.parametrize("transposed", [False, True])
def test_rows_of_a_dense_layer(transposed):
    x, w = draw(2, 3, 4), draw(5, 4, seed=1)
    stored = w.T.contiguous() if transposed else w
    geometry = Dense(transposed)
    product = rows(x, geometry)[0] @ weight_rows(stored, geometry)[0].T
    assert torch.allclose(product.reshape(2, 3, 5), F.linear(x, w), atol=1e-12)
    assert torch.allclose(output_rows(F.linear(x, w), geometry)[0], product, atol=1e-12)
    back = weight_of_rows(weight_rows(stored, geometry), tuple(stored.shape), geometry)
    assert torch.equal(back, stored)


@pytest.mark.parametrize(
    ("x_shape", "kernel", "groups"),
    [((5, 32, 56, 56), 3, 32), ((9, 64, 8, 8), 3, 1), ((7, 4, 100, 100), 1, 1)],
)
def test_pieces_cover_a_batch_and_their_patches_are_few(x_shape, kernel, groups):
    side = kernel // 2
    geometry = Convolution((kernel,) * 2, (1, 1), ((side, side),) * 2, (1, 1), groups)
    x = torch.zeros(x_shape)
    found = list(pieces(x, x, geometry))
    assert torch.equal(
        torch.cat([torch.arange(len(x))[piece] for piece in found]), torch.arange(len(x))
    )
    for piece in found:
        patches = rows(x[piece], geometry)
        fewest = ROWS_PER_INPUT * patches.shape[2] + x_shape[2] * x_shape[3]
        assert patches.numel() <= PIECE or patches.shape[1] < fewest or len(x[piece]) == 1


def test_an_empty_batch_has_no_pieces():
    point = CONVOLUTIONS[-1][0]
    assert not list(pieces(torch.zeros(0, 4, 5, 5), torch.zeros(0, 3, 5, 5), point))


def test_neighbouring_rows_of_patches_are_neighbours_in_memory():
    """As they are in an image; a copy in another order took most of the time of the moments."""
    geometry, x_shape, _ = CONVOLUTIONS[3]
    x = draw(*x_shape)
    assert rows(x, geometry).stride(1) == 1
    assert output_rows(x, geometry).stride(1) == 1

"""A layer as a forecast sees it, beside what its solvers make of a batch."""

import pytest
import torch
from torch import nn

from qcompile.analysis.layer_work import matrix_layer
from qcompile.capture.sites import find_sites
from qcompile.capture.trace import trace
from qcompile.quant.geometry import Convolution, pieces, rows

BATCH = 32
CASES = {
    "one piece": (nn.Conv2d(16, 8, 3, padding=1), 8),
    "pieces of some images": (nn.Conv2d(16, 16, 3, padding=1), 32),
    "a piece an image": (nn.Conv2d(32, 32, 3, padding=1, groups=32), 56),
    "as many rows as wide ones need": (nn.Conv2d(256, 64, 3, padding=1), 8),
}


def layer_of(model, x, outputs):
    (site,) = find_sites(trace(model, (x,), {}).module)
    return matrix_layer(site, outputs)


@pytest.mark.parametrize("name", CASES)
def test_patches_of_so_many_positions_are_made_together(name):
    """By whole images."""
    conv, side = CASES[name]
    image = side**2
    x, y = torch.zeros(BATCH, conv.in_channels, side, side), torch.zeros(BATCH, 1, side, side)
    found = layer_of(conv, x[:2], BATCH * conv.out_channels * image)
    geometry = Convolution((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), conv.groups)
    largest = max(rows(x[piece], geometry).shape[1] for piece in pieces(x, y, geometry))
    assert found.positions == BATCH * image
    assert abs(found.at_once - largest) < image


def test_rows_of_a_linear_layer_are_there_all():
    found = layer_of(nn.Linear(6, 5), torch.zeros(2, 6), 4000 * 5)
    assert (found.positions, found.at_once) == (4000, 4000)

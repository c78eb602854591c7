"""A range that suits the layer's output, against brute force and the observer's."""

import itertools

import pytest
import torch

from qcompile.policy.number_format import IntFormat
from qcompile.policy.scheme import PerTensor, QuantSlot
from qcompile.quant.grid import Grid, covering
from qcompile.quant.output_range import HALVINGS, LEAST, layer_input, output_range

A4 = QuantSlot(format=IntFormat(bits=4, signed=False), symmetric=False, granularity=PerTensor())
S4 = QuantSlot(format=IntFormat(bits=4, signed=True), symmetric=True, granularity=PerTensor())


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def spread(rows=200, k=8):
    """One channel is far wider than the others, and the second output alone looks at it."""
    x = draw(1, rows, k)
    x[..., 0] *= 20
    weight = draw(1, 3, k, seed=1)
    weight[:, :, 0] = torch.tensor([0.0, 1e-3, 0.0])
    return x, weight


def ends(x):
    return x.amin().view(1), x.amax().view(1)


def all_of(x, spec):
    number = spec.integer
    return covering(*ends(x), number.qmin, number.qmax, symmetric=spec.symmetric)


def output_error(grid, x, weight, *, centred, weights=None):
    off = (grid.fake_quantize(x) - x).double() @ weight.double().transpose(1, 2)
    own = torch.ones(x.shape[:2]) if weights is None else weights
    own = own[..., None].double()
    if centred:
        off = off - (off * own).sum(1, keepdim=True) / own.sum(1, keepdim=True)
    return float((off.square() * own).sum())


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("outputs", [3, 12])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_error_is_that_of_the_output(centred, outputs, weighted):
    x, weight = draw(2, 50, 8), draw(2, outputs, 8, seed=1)
    weights = draw(1, 50, seed=2).abs() if weighted else None
    sample = layer_input(x, weight, None, centred=centred, weights=weights)
    grid = all_of(x, A4)
    wanted = output_error(grid, x, weight, centred=centred, weights=weights)
    assert sample.error(grid) == pytest.approx(wanted, rel=1e-4)


def test_outputs_count_by_their_gain():
    x, weight = draw(1, 50, 8), draw(1, 3, 8, seed=1)
    gain = torch.tensor([[1.0, 0.0, 3.0]])
    sample = layer_input(x, weight, gain, centred=False)
    wanted = output_error(all_of(x, A4), x, weight * gain[..., None], centred=False)
    assert sample.error(all_of(x, A4)) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("spec", [A4, S4], ids=["asymmetric", "symmetric"])
def test_a_wide_channel_that_hardly_counts_is_cut(spec):
    x, weight = spread()
    sample = layer_input(x, weight, None, centred=True)
    start = all_of(x, spec)
    found = output_range(sample, start, *ends(x), spec)
    assert float(found.scale) < 0.3 * float(start.scale)
    assert sample.error(found) < 0.2 * sample.error(start)


@pytest.mark.parametrize("seed", range(5))
def test_hardly_anything_better_lies_on_the_lattice_of_the_last_step(seed):
    """Brute force over both ends; the search descends, so that a few percent may be left."""
    x = torch.nn.functional.gelu(2 * draw(1, 64, 6, seed=seed))
    weight = draw(1, 4, 6, seed=seed + 10)
    sample = layer_input(x, weight, None, centred=True)
    low, high = ends(x)
    count = round(1 / HALVINGS[-1])
    shares = [step * HALVINGS[-1] for step in range(1, count + 1) if step * HALVINGS[-1] >= LEAST]
    grids = (
        covering(low * a, high * b, 0, 15, symmetric=False)
        for a, b in itertools.product(shares, shares)
    )
    best = min(map(sample.error, grids))
    found = sample.error(output_range(sample, all_of(x, A4), low, high, A4))
    assert found <= 1.25 * best


def test_a_start_that_is_better_stays():
    x, weight = spread()
    sample = layer_input(x, weight, None, centred=True)
    exact = Grid(torch.tensor([1e-3]), torch.tensor([0.0]), -(1 << 20), 1 << 20)
    assert output_range(sample, exact, *ends(x), A4) is exact


def test_nothing_to_compare_leaves_the_start():
    x = torch.zeros(1, 5, 3)
    start = all_of(x, A4)
    sample = layer_input(x, draw(1, 2, 3), None, centred=True)
    assert output_range(sample, start, *ends(x), A4) is start

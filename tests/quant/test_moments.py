"""Moments against the samples that they stand for."""

import pytest
import torch

from qcompile.quant.geometry import Convolution, Dense, output_rows, rows
from qcompile.quant.moments import moments


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


DEPTHWISE = Convolution((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 4)
CASES = [
    (Dense(), (40, 6), (40, 5), (1, 5, 6)),
    (DEPTHWISE, (6, 4, 5, 5), (6, 8, 5, 5), (4, 2, 9)),
]


def case(geometry, x_shape, y_shape, batches=1):
    q, t = 1 + draw(*x_shape).float(), 0.5 + draw(*y_shape, seed=1).float()
    pairs = zip(q.chunk(batches), t.chunk(batches), strict=True)
    return q, t, moments(pairs, geometry)


@pytest.mark.parametrize(("geometry", "x_shape", "y_shape", "w_shape"), CASES)
@pytest.mark.parametrize("bias", [0.0, 0.75])
def test_the_error_of_any_weight_is_the_mean_over_the_samples(
    geometry, x_shape, y_shape, w_shape, bias
):
    q, t, found = case(geometry, x_shape, y_shape)
    weight = draw(*w_shape, seed=2)
    off = rows(q, geometry).double() @ weight.transpose(1, 2) + bias - output_rows(t, geometry)
    assert torch.allclose(found.error(weight, bias), off.square().mean(1), rtol=1e-5)


@pytest.mark.parametrize(("geometry", "x_shape", "y_shape", "w_shape"), CASES)
def test_the_bias_makes_the_mean_error_zero_and_the_error_least(
    geometry, x_shape, y_shape, w_shape
):
    q, t, found = case(geometry, x_shape, y_shape)
    weight = draw(*w_shape, seed=2)
    bias = found.bias(weight)
    off = rows(q, geometry).double() @ weight.transpose(1, 2) - output_rows(t, geometry)
    assert torch.allclose(off.mean(1), -bias, atol=1e-5)
    best = found.error(weight, bias)
    assert torch.allclose(best, found.centred().error(weight), rtol=1e-5, atol=1e-6)
    for step in (-0.01, 0.01):
        assert bool((found.error(weight, bias + step) > best).all())


def test_moments_do_not_depend_on_how_samples_are_batched():
    whole, parts = case(*CASES[0][:3])[2], case(*CASES[0][:3], batches=5)[2]
    assert whole.samples == parts.samples == 40
    for name in ("gram", "cross", "mean_input", "mean_target", "power"):
        assert torch.allclose(getattr(whole, name), getattr(parts, name), rtol=1e-5, atol=1e-6)


def test_centred_moments_are_covariances():
    q, _, found = case(*CASES[0][:3])
    covariance = torch.cov(q.double().T, correction=0)
    assert torch.allclose(found.centred().gram[0], covariance, rtol=1e-5, atol=1e-6)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="no samples"):
        moments([], Dense())

"""Moments against the samples that they stand for."""

import pytest
import torch

from qcompile.quant.geometry import Convolution, Dense, output_rows, rows
from qcompile.quant.moments import FromInputs, UnusableSamplesError, moments
from qcompile.quant.second_moment import products, second_moment


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


DEPTHWISE = Convolution((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 4)
POINTS = Convolution((1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 1)
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
    bias = found.means.bias(weight)
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


@pytest.mark.parametrize("weights", [None, [torch.full((1, 1), 2.0)] * 2])
def test_a_vector_is_one_row(weights):
    """Of a layer that reads a value without a batch."""
    q, t = draw(2, 8).float(), draw(2, 3, seed=1).float()
    found = moments(zip(q, t, strict=True), Dense(), weights)
    assert found.samples == 2
    assert torch.allclose(found.gram[0], (q.T @ q / 2).double(), atol=1e-6)
    assert torch.allclose(found.cross[0], (t.T @ q / 2).double(), atol=1e-6)


def test_images_are_looked_at_in_pieces(monkeypatch):
    whole = case(*CASES[1][:3])[2]
    monkeypatch.setattr("qcompile.quant.geometry.PIECE", 1)
    monkeypatch.setattr("qcompile.quant.geometry.ROWS_PER_INPUT", 1)
    parts = case(*CASES[1][:3])[2]
    assert whole.samples == parts.samples == 6 * 5 * 5
    for name in ("gram", "cross", "mean_input", "mean_target", "power"):
        assert torch.allclose(getattr(whole, name), getattr(parts, name), rtol=1e-5, atol=1e-6)


def test_centred_moments_are_covariances():
    q, _, found = case(*CASES[0][:3])
    covariance = torch.cov(q.double().T, correction=0)
    assert torch.allclose(found.centred().gram[0], covariance, rtol=1e-5, atol=1e-6)


def test_a_mean_that_is_large_beside_the_spread_does_not_drown_it():
    """Inputs of a standard deviation of 1 around 1000, as outlier channels are."""
    q, t = draw(4000, 6).float() + 1000, draw(4000, 3, seed=1).float() - 500
    found = moments(zip(q.chunk(8), t.chunk(8), strict=True), Dense()).centred()
    exact = torch.cov(torch.cat([q, t], 1).double().T, correction=0)
    assert torch.allclose(found.gram[0], exact[:6, :6], atol=1e-3)
    assert torch.allclose(found.cross[0], exact[6:, :6], atol=1e-3)


def test_the_product_itself_as_the_wanted_output():
    q, _, found = case(*CASES[0][:3])
    weight = draw(1, 5, 6, seed=2)
    expected = moments([(q, (q.double() @ weight[0].T).float())], Dense())
    made = found.of_product(weight)
    for name in ("cross", "mean_target", "power"):
        assert torch.allclose(getattr(made, name), getattr(expected, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spoilt", [torch.nan, torch.inf])
def test_samples_that_are_no_numbers_are_refused(spoilt):
    q, t = draw(8, 6).float(), draw(8, 5).float()
    t[3, 2] = spoilt
    with pytest.raises(UnusableSamplesError):
        moments([(q, t)], Dense())


def test_no_samples_are_refused():
    with pytest.raises(UnusableSamplesError):
        moments([], Dense())
    with pytest.raises(UnusableSamplesError):
        moments([(torch.zeros(0, 6), torch.zeros(0, 5))], Dense())


@pytest.mark.parametrize(("geometry", "x_shape", "y_shape", "w_shape"), CASES)
def test_a_row_of_twice_the_weight_is_there_twice(geometry, x_shape, y_shape, w_shape):
    q, t, _ = case(geometry, x_shape, y_shape)
    count = rows(q, geometry).shape[1]
    twice = count // len(q)  # the rows of the first sample
    weights = torch.ones(1, count)
    weights[:, :twice] = 2
    weighted = moments([(q, t)], geometry, [weights])
    repeated = moments([(torch.cat([q[:1], q]), torch.cat([t[:1], t]))], geometry)
    for name in ("gram", "cross", "mean_input", "mean_target", "power"):
        assert torch.allclose(
            getattr(weighted, name), getattr(repeated, name), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("k", [1, 6, 128, 129, 301])
def test_a_symmetric_product_is_the_whole_product(k):
    x, weight = draw(2, 40, k), draw(2, 40, 1, seed=1).abs()
    found = second_moment(weight * x, x)
    assert torch.allclose(found, (weight * x).transpose(1, 2) @ x, rtol=1e-12, atol=1e-12)
    assert k <= 128 or torch.equal(found[:, : k // 2, k // 2 :], found[:, k // 2 :, : k // 2].mT)


@pytest.mark.parametrize(("k", "count"), [(1, 1), (128, 128**2), (129, 64**2 + 65**2 + 64 * 65)])
def test_products_count_what_is_multiplied(k, count):
    assert products(k) == count


def test_half_of_a_wide_product_is_computed():
    assert products(4096) / 4096**2 == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize(
    "geometry", [Dense(), Convolution((1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 1)]
)
def test_wanted_outputs_may_be_told_by_what_they_are_made_of(geometry, weighed):
    shape = (40, 6) if isinstance(geometry, Dense) else (40, 6, 3, 3)
    f = 5 + draw(*shape).float()
    q, weight = f + 0.3 * draw(*shape, seed=3).float(), draw(1, 20, 6, seed=2).float().double()
    made = rows(f, geometry).double() @ weight.mT
    t = made[0] if isinstance(geometry, Dense) else made.view(40, 2, 2, 20).permute(0, 3, 1, 2)
    pairs = list(zip(q.chunk(4), t.float().chunk(4), strict=True))
    count = rows(q, geometry).shape[1] // 4
    weights = [draw(1, count, seed=9 + n).abs().float() for n in range(4)] if weighed else None
    plain = moments(pairs, geometry, weights)
    told = moments(pairs, geometry, weights, FromInputs(weight, f.chunk(4)))
    for name in ("gram", "cross", "mean_input", "mean_target", "power"):
        assert torch.allclose(getattr(told, name), getattr(plain, name), rtol=1e-5, atol=1e-5)
    centred = (told.centred().cross, plain.centred().cross)
    assert torch.allclose(*centred, rtol=1e-4, atol=1e-5)

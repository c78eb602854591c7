import pytest
import torch

from qcompile.policy.scheme import (
    Clip,
    IntFormat,
    Lsq,
    MinMax,
    Mse,
    Percentile,
    PerChannel,
    PerGroup,
    PerTensor,
    QuantSlot,
    SignedMse,
)
from qcompile.quant import range_search
from qcompile.quant.grid import Grid, covering
from qcompile.quant.grouping import grouping
from qcompile.quant.range_search import (
    SHRINK_FACTORS,
    activation_range,
    error,
    weight_range,
)
from qcompile.quant.sampling import sample


def slot(bits, *, symmetric, signed=None, granularity=None, observer=None):
    return QuantSlot(
        format=IntFormat(bits=bits, signed=symmetric if signed is None else signed),
        symmetric=symmetric,
        granularity=granularity or PerTensor(),
        observer=observer or Mse(),
    )


def heavy_tailed(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator)
    return x * x.abs()


def score(x, grid: Grid, p=2.4):
    """The mean of ``|x - x_hat| ** p`` in float64, by the definition."""
    return float((grid.fake_quantize(x) - x).double().abs().pow(p).mean())


def brute_force(x, spec):
    """Least score of all shrunk grids of one row, by a plain loop."""
    low, high = x.min().clamp(max=0).reshape(1), x.max().clamp(min=0).reshape(1)
    qmin, qmax = spec.format.qmin, spec.format.qmax
    grids = [covering(low, high, qmin, qmax, symmetric=spec.symmetric)]
    for factor in SHRINK_FACTORS:
        if not spec.symmetric:
            grids.append(covering(low * factor, high * factor, qmin, qmax, symmetric=False))
            continue
        largest = torch.maximum(high, -low) if qmin < 0 else high
        for last in (qmax, -qmin) if qmin < 0 else (qmax,):
            scale = largest * factor / last
            grids.append(Grid(scale, torch.zeros(1), qmin, qmax))
    return min(score(x, grid) for grid in grids)


def test_the_factors_are_those_of_the_reference_implementation():
    assert len(SHRINK_FACTORS) == 80
    assert (SHRINK_FACTORS[0], SHRINK_FACTORS[1], SHRINK_FACTORS[-1]) == (1.0, 0.99, 0.21)


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_search_finds_the_brute_force_minimum(bits, symmetric):
    x = heavy_tailed(777) - 0.3
    spec = slot(bits, symmetric=symmetric)
    found = activation_range(sample([x], None), spec)
    # the float32 powers in the search may swap candidates that differ in the sixth digit
    assert score(x, found) == pytest.approx(brute_force(x, spec), rel=1e-5)


@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel(), PerGroup(size=16)], ids=str)
@pytest.mark.parametrize(
    ("symmetric", "signed"), [(True, True), (False, False), (False, True), (True, False)]
)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_searched_range_is_never_worse_than_min_max(granularity, symmetric, signed, bits):
    weight = heavy_tailed(12, 64, seed=bits)
    shared = {"symmetric": symmetric, "signed": signed, "granularity": granularity}
    view = grouping(granularity, (12, 64), 0)
    rows = view.view(weight).flatten(0, 1)

    def row_errors(observer):
        grid = weight_range(weight, slot(bits, observer=observer, **shared), 0)
        flat = Grid(grid.scale.reshape(-1, 1), grid.zero_point.reshape(-1, 1), grid.qmin, grid.qmax)
        return error(rows, flat, 2.4)

    searched, plain = row_errors(Mse()), row_errors(MinMax())
    assert bool((searched <= plain).all())
    if bits < 8 and signed:
        assert float(searched.sum()) < float(plain.sum())


def test_error_is_the_sum_of_powers_over_the_maximum():
    x = heavy_tailed(3, 500)
    grid = Grid(torch.full((3, 1), 0.3), torch.zeros(3, 1), -8, 7)
    distance = (grid.fake_quantize(x) - x).double().abs() / x.double().abs().amax(1, keepdim=True)
    wanted = distance.pow(2.4).sum(1, keepdim=True)
    assert torch.allclose(error(x, grid, 2.4), wanted, rtol=1e-5)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_signed_scale_turns_the_grid_to_the_larger_numbers(bits):
    """Its error is that of ``mse`` on rows turned so that the largest number is negative."""
    weight = heavy_tailed(12, 32, seed=bits)
    found = weight_range(
        weight, slot(bits, symmetric=True, granularity=PerGroup(16), observer=SignedMse()), 0
    )
    plain = slot(bits, symmetric=True, granularity=PerGroup(16))
    rows = grouping(PerGroup(16), (12, 32), 0).view(weight)
    is_turned = rows.amax(-1, keepdim=True) > -rows.amin(-1, keepdim=True)
    assert torch.equal(found.zero_point == -1, is_turned)
    assert 0 < is_turned.double().mean() < 1
    turned = torch.where(is_turned, -rows, rows)
    wanted = weight_range(turned.view(12, 32), plain, 0)
    assert torch.equal(found.scale, wanted.scale)
    numbers = torch.where(is_turned, -1.0, 1.0) * wanted.fake_quantize(turned)
    assert torch.equal(found.fake_quantize(rows), numbers)
    assert score(rows, found) < score(rows, weight_range(weight, plain, 0))


def test_rows_of_zeros_have_a_grid_that_is_not_turned():
    spec = slot(4, symmetric=True, granularity=PerGroup(4), observer=SignedMse())
    found = weight_range(torch.zeros(2, 8), spec, 0)
    assert not found.zero_point.any()
    assert (found.scale == 1).all()


def test_chunks_do_not_change_the_result(monkeypatch):
    weight = heavy_tailed(40, 96)
    spec = slot(3, symmetric=False, granularity=PerChannel())
    whole = weight_range(weight, spec, 0)
    monkeypatch.setattr("qcompile.quant.range_search._CHUNK", 500)
    pieces = weight_range(weight, spec, 0)
    assert torch.equal(whole.scale, pieces.scale)
    assert torch.equal(whole.zero_point, pieces.zero_point)


@pytest.mark.parametrize("power", [-60, -20, 20, 60])
@pytest.mark.parametrize("symmetric", [True, False])
def test_codes_do_not_depend_on_the_unit_of_the_weight(power, symmetric):
    weight = heavy_tailed(8, 50)
    spec = slot(4, symmetric=symmetric, granularity=PerChannel())
    plain, scaled = weight_range(weight, spec, 0), weight_range(weight * 2.0**power, spec, 0)
    assert torch.equal(plain.scale * 2.0**power, scaled.scale)
    assert torch.equal(plain.zero_point, scaled.zero_point)


def test_each_channel_is_searched_for_itself():
    weight = torch.cat([heavy_tailed(4, 30), torch.zeros(1, 30), torch.full((1, 30), 5.0)])
    spec = slot(4, symmetric=False, granularity=PerChannel())
    together = weight_range(weight, spec, 0)
    for row in range(6):
        alone = weight_range(weight[row : row + 1], spec, 0)
        assert torch.equal(together.scale[row : row + 1], alone.scale)
    assert together.scale[4].item() == 1.0
    constant = Grid(together.scale[5], together.zero_point[5], 0, 15)
    assert constant.fake_quantize(torch.tensor([5.0])).item() == pytest.approx(5.0, rel=1e-6)


def test_the_output_axis_carries_the_channels():
    weight = heavy_tailed(20, 7)
    spec = slot(4, symmetric=True, granularity=PerChannel())
    flipped = weight_range(weight.T.contiguous(), spec, 1)
    assert torch.equal(weight_range(weight, spec, 0).scale, flipped.scale)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_percentile_range_holds_that_share_of_the_values(symmetric):
    x = heavy_tailed(20_001)
    spec = slot(8, symmetric=symmetric, observer=Percentile(q=99.0))
    grid = activation_range(sample([x], None), spec)
    codes = grid.quantize(x)
    step, middle = grid.scale, grid.zero_point
    inside = (x >= (grid.qmin - middle) * step) & (x <= (grid.qmax - middle) * step)
    assert float(inside.float().mean()) == pytest.approx(0.99, abs=0.004)
    assert (int(codes.max()), int(codes.min())) == (grid.qmax, grid.qmin)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_clipped_range_is_a_share_of_the_observed_one(symmetric):
    x = heavy_tailed(20_001)
    whole, clipped = (
        activation_range(sample([x], None), slot(8, symmetric=symmetric, observer=observer))
        for observer in (MinMax(), Clip(share=0.7))
    )
    assert float(clipped.scale / whole.scale) == pytest.approx(0.7)
    assert torch.equal(clipped.zero_point, whole.zero_point)


def test_a_one_sided_percentile_is_cut_at_one_end():
    x = torch.arange(0.0, 1001.0)
    spec = slot(8, symmetric=False, observer=Percentile(q=90.0))
    grid = activation_range(sample([x], None), spec)
    assert float(grid.zero_point) == 0
    assert float(grid.scale) * 255 == pytest.approx(900.0)


def test_a_percentile_of_nearly_all_zeros_keeps_the_true_range():
    x = torch.zeros(1000)
    x[3] = 10.0
    grid = activation_range(
        sample([x], None), slot(8, symmetric=False, observer=Percentile(q=99.0))
    )
    assert float(grid.scale) * 255 == pytest.approx(10.0)


def test_lsq_starts_from_the_mse_range():
    x = heavy_tailed(999)
    found = [
        activation_range(sample([x], None), slot(4, symmetric=False, observer=observer))
        for observer in (Lsq(), Mse())
    ]
    assert torch.equal(found[0].scale, found[1].scale)


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(9),
        torch.tensor([3.0]),
        torch.full((5,), -2.0),
        torch.tensor([1e-45, -1e-44]),
        torch.tensor([3e38, -3e38]),
    ],
    ids=["zeros", "single", "negative", "denormal", "huge"],
)
@pytest.mark.parametrize("observer", [MinMax(), Mse(), Percentile(q=99.0)], ids=lambda o: o.kind)
@pytest.mark.parametrize("symmetric", [True, False])
def test_degenerate_tensors_get_a_legal_grid(x, observer, symmetric):
    grid = activation_range(sample([x], None), slot(4, symmetric=symmetric, observer=observer))
    assert float(grid.scale) >= torch.finfo(torch.float32).tiny
    assert torch.isfinite(grid.fake_quantize(x)).all()


def test_a_tensor_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        activation_range(sample([torch.tensor([1.0, float("nan")])], None), slot(4, symmetric=True))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("stride", [1, 5])
def test_what_is_left_out_of_a_search_could_not_have_been_better(
    monkeypatch, bits, signed, symmetric, stride
):
    generator = torch.Generator().manual_seed(bits)
    x = torch.randn(40, 300, generator=generator)
    x[:10] = x[:10] ** 3  # long tails
    x[10:20] = x[10:20].relu() + 0.1  # one-sided
    x[20] = 0
    x[21, 5], x[22, 7] = 50.0, -50.0
    x[23] *= 1e-20
    spec = slot(bits, symmetric=symmetric, signed=signed, granularity=PerChannel())
    found = weight_range(x, spec, 0, stride=stride)
    monkeypatch.setattr(range_search._Search, "is_settled", lambda self, factor: False)
    whole = weight_range(x, spec, 0, stride=stride)
    assert torch.equal(found.scale, whole.scale)
    assert torch.equal(found.zero_point, whole.zero_point)


def test_a_search_of_eight_bits_ends_early(monkeypatch):
    looked = []
    look = range_search._Search.look
    monkeypatch.setattr(
        range_search._Search,
        "look",
        lambda self, factor, end: looked.append(1) or look(self, factor, end),
    )
    x = torch.randn(8, 4096, generator=torch.Generator().manual_seed(0))
    weight_range(x, slot(8, symmetric=True, granularity=PerChannel()), 0)
    assert len(looked) < 40


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 6])
def test_a_number_that_counts_thrice_is_three_numbers(bits, symmetric):
    weight = heavy_tailed(6, 40, seed=bits)
    times = torch.randint(1, 4, (40,), generator=torch.Generator().manual_seed(1))
    spec = slot(bits, symmetric=symmetric, granularity=PerChannel())
    counted = weight_range(weight, spec, 0, counts=times.expand(6, 40))
    repeated = weight_range(weight.repeat_interleave(times, dim=1), spec, 0)
    assert torch.allclose(counted.scale, repeated.scale)
    assert torch.equal(counted.zero_point, repeated.zero_point)
    assert not torch.equal(counted.scale, weight_range(weight, spec, 0).scale)


def test_counts_are_cut_as_the_numbers_are(monkeypatch):
    weight, counts = heavy_tailed(40, 96), heavy_tailed(40, 96, seed=1).abs()
    spec = slot(3, symmetric=False, granularity=PerGroup(size=32))
    whole = weight_range(weight, spec, 0, counts=counts)
    monkeypatch.setattr("qcompile.quant.range_search._CHUNK", 500)
    pieces = weight_range(weight, spec, 0, counts=counts)
    assert torch.equal(whole.scale, pieces.scale)
    alike = weight_range(weight, spec, 0, counts=torch.ones_like(counts))
    assert torch.equal(alike.scale, weight_range(weight, spec, 0).scale)
    assert not torch.equal(alike.scale, whole.scale)

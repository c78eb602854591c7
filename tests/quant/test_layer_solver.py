"""The layer solver against brute force, against the samples, and against itself."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from qcompile.methods.presets import preset
from qcompile.policy.scheme import IntFormat, PerChannel, PerGroup, PerTensor, QuantSlot
from qcompile.quant import layer_solver
from qcompile.quant.elimination import NotPositiveDefiniteError, eliminate
from qcompile.quant.geometry import Convolution, Dense, output_rows, rows, weight_rows
from qcompile.quant.layer import Layer
from qcompile.quant.layer_solver import fit_layer, ridge_target
from qcompile.quant.moments import Moments, moments
from qcompile.quant.rounding import nearest

HYBRID = preset("hybrid")
assert HYBRID is not None
CHANNEL = PerChannel()


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def w(bits, granularity=CHANNEL, *, symmetric=False):
    format_ = IntFormat(bits=bits, signed=symmetric)
    return QuantSlot(format=format_, symmetric=symmetric, granularity=granularity)


def layer_of(spec, *, transposed=False, seed=0, out=24, k=16):
    weight = draw(out, k, seed=seed).float()
    stored = weight.T.contiguous() if transposed else weight
    return Layer(stored, spec, int(transposed), Dense(transposed))


def samples(layer, n=600, seed=5, noise=0.2):
    """Correlated inputs with a mean, behind a prefix that adds noise; float outputs plus a bias."""
    k = layer.rows().shape[-1]
    mix = draw(k, k, seed=99) * torch.arange(1, k + 1) ** -0.7
    plain = draw(n, k, seed=seed) @ mix.T + 0.5
    quantized = plain + noise * draw(n, k, seed=seed + 1)
    return quantized, plain @ layer.rows()[0].T + 0.3


def ridge(weight, fit, damping):
    return ridge_target(weight, fit, eliminate(fit.gram, "activation", damping))


def fitted(layer, tuning=HYBRID, *, refits_bias=True, seed=5, **options):
    grid = layer.range_of(layer.rows())
    fit = moments([samples(layer, seed=seed, **options)], Dense())
    held = moments([samples(layer, seed=seed + 10)], Dense()) if len(tuning.damping) > 1 else None
    return fit_layer(layer, tuning, grid, fit, held, refits_bias=refits_bias)


def true_error(layer, found, seed=40):
    q, t = samples(layer, seed=seed, n=4000)
    bias = 0.0 if found.bias is None else found.bias[0]
    return float((q @ found.weight[0].T + bias - t).square().mean())


@pytest.mark.parametrize("spec", [w(2), w(3), w(4), w(3, symmetric=True), w(3, PerGroup(size=4))])
@pytest.mark.parametrize("transposed", [False, True])
def test_every_step_of_the_composition_pays_on_new_samples(spec, transposed):
    layer = layer_of(spec, transposed=transposed)
    plain = replace(HYBRID, solvers=("rtn",), target="symmetric", learn=("rounding",))
    one = {"damping": (0.01,), "scale_factors": (1.0,)}
    chain = [
        (replace(plain, **one), False),
        (replace(HYBRID, **one, target="symmetric", learn=("rounding",), solvers=("optq",)), False),
        (replace(HYBRID, **one, target="asymmetric", learn=("rounding",)), False),
        (replace(HYBRID, **one), True),
    ]
    errors = [true_error(layer, fitted(layer, t, refits_bias=bias)) for t, bias in chain]
    assert all(later < earlier for earlier, later in pairwise(errors)), errors


def test_the_target_is_the_least_squares_weight():
    layer = layer_of(w(3))
    q, t = samples(layer)
    fit = moments([(q, t)], Dense())
    found = ridge(layer.rows(), fit, 1e-9)
    exact = torch.linalg.lstsq(q, t).solution.T
    assert found.elimination.damping == 1e-9
    assert torch.allclose(found.target[0], exact, atol=1e-4)


def test_much_damping_leaves_the_weight_as_it_is():
    layer = layer_of(w(3))
    found = ridge(layer.rows(), moments([samples(layer)], Dense()), 1e6)
    assert torch.allclose(found.target, layer.rows(), atol=1e-4)


def test_equal_streams_leave_the_target_at_the_weight():
    layer = layer_of(w(3))
    q, _ = samples(layer)
    fit = moments([(q, q @ layer.rows()[0].T)], Dense())
    exact = ridge(layer.rows(), fit, 0.01)
    target, gram = exact.target, exact.gram.double()
    off = target - layer.rows()
    moved = ((off @ gram) * off).sum() / ((layer.rows() @ gram) * layer.rows()).sum()
    assert float(moved) < 1e-10  # what float32 sums over the samples leave


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_gptaq_behind_an_exact_prefix_is_optq(bits):
    layer = layer_of(w(bits))
    optq, gptaq = preset("optq"), preset("gptaq")
    grid = layer.range_of(layer.rows())

    def codes(tuning, noise):
        q, wanted = samples(layer, noise=noise)
        own = q @ layer.rows()[0].T
        fit = moments([(q, own if tuning is optq else wanted - 0.3)], Dense())
        return fit_layer(layer, tuning, grid, fit, None, refits_bias=False).codes

    assert torch.equal(codes(optq, 0.0), codes(gptaq, 0.0))
    assert not torch.equal(codes(optq, 0.5), codes(gptaq, 0.5))


def test_a_tiny_layer_is_solved_as_well_as_brute_force():
    layer = layer_of(w(2), out=3, k=5)
    tuning = replace(HYBRID, damping=(0.01,), scale_factors=(1.0,), refits=0)
    q, t = samples(layer)
    fit = moments([(q, t)], Dense())
    grid = layer.range_of(layer.rows())
    found = fit_layer(layer, tuning, grid, fit, None, refits_bias=False)
    exact = ridge(layer.rows(), fit, 0.01)
    target, gram = exact.target, exact.gram.double()
    codes = torch.cartesian_prod(*[torch.arange(4.0, dtype=torch.float64)] * 5)
    for row in range(3):
        values = (codes - found.zero_point[0, row]) * found.scale[0, row]
        off = values - target[0, row]
        best = ((off @ gram[0]) * off).sum(1).min()
        mine = found.weight[0, row] - target[0, row]
        assert float(mine @ gram[0] @ mine) <= 1.05 * float(best)
        assert float(mine @ gram[0] @ mine) >= float(best) - 1e-12


def test_codes_and_grid_stand_for_the_fitted_weight():
    for spec, transposed in [
        (w(3), True),
        (w(3, PerGroup(size=4)), False),
        (w(3, PerTensor()), False),
    ]:
        layer = layer_of(spec, transposed=transposed)
        found = fitted(layer)
        grid = layer.grid_of(found.scale, found.zero_point, found.grid)
        values = grid.dequantize(layer.codes_of(found.codes))
        rebuilt = weight_rows(layer.grouping.restore(values), layer.geometry)
        assert torch.allclose(rebuilt.double(), found.weight, rtol=1e-6, atol=1e-7)
        assert int(found.codes.min()) >= grid.qmin
        assert int(found.codes.max()) <= grid.qmax


def test_one_scale_for_the_whole_tensor_stays_one():
    found = fitted(layer_of(w(3, PerTensor())))
    assert found.scale.unique().numel() == 1


def test_depthwise_channels_are_problems_of_their_own():
    geometry = Convolution((3,), (1,), ((1, 1),), (1,), 4)
    layer = Layer(draw(4, 1, 3).float(), w(2), 0, geometry)
    x = draw(50, 4, 9, seed=1).float() + 1
    wanted = torch.nn.functional.conv1d(x, layer.weight, padding=1, groups=4)
    tuning = replace(HYBRID, damping=(0.01,))
    found = fit_layer(
        layer,
        tuning,
        layer.range_of(layer.rows()),
        moments([(x, wanted)], geometry),
        None,
        refits_bias=True,
    )
    off = rows(x, geometry).double() @ found.weight.transpose(1, 2) + found.bias[:, None]
    error = (off - output_rows(wanted, geometry)).square().mean((1, 2))
    plain = nearest(layer.grouping.view(layer.weight), grid := layer.range_of(layer.rows()))
    rounded = layer.grouping.restore(grid.dequantize(plain))
    off = torch.nn.functional.conv1d(x, rounded, padding=1, groups=4) - wanted
    assert bool((error <= off.square().mean((0, 2)) + 1e-9).all())


def test_nearest_rounding_is_kept_where_the_fit_does_not_carry_over():
    """Held-out samples that contradict the fit: whatever was learned is worse on them."""
    layer = layer_of(w(4))
    q, t = samples(layer, noise=0.0)
    misled = moments([(q @ draw(16, 16, seed=3), t)], Dense())
    honest = moments([(q, q @ layer.rows()[0].T)], Dense())
    grid = layer.range_of(layer.rows())
    found = fit_layer(layer, HYBRID, grid, misled, honest, refits_bias=False)
    assert found.damping == 0
    codes = layer.codes_of(found.codes)
    assert torch.equal(codes, nearest(layer.grouping.view(layer.weight), grid))


def test_few_samples_take_more_damping_than_many():
    layer = layer_of(w(3), k=48)
    few = fitted(layer, n=20).damping
    many = fitted(layer, n=4000).damping
    assert few > many


def test_the_fewer_samples_the_less_of_the_way_to_the_wanted_output_is_gone():
    """Of few samples the wanted output is learned by heart."""
    layer = layer_of(w(3), k=48)
    few, some, many = (fitted(layer, n=n).blend for n in (20, 400, 20000))
    assert few < 0.3 < some < many
    assert many > 0.95


@pytest.mark.parametrize("refits_bias", [False, True])
def test_the_blend_has_the_least_error_on_the_way(refits_bias):
    layer = layer_of(w(3), k=48)
    fit, held = (moments([samples(layer, n=n, seed=n)], Dense()) for n in (60, 50))
    means = fit.means if refits_bias else None
    weight, judge = layer.rows(), layer_solver._Judge(held, None)
    solved = ridge(weight, fit.centred() if refits_bias else fit, 0.01).target
    step, found = solved - weight, []
    for target in (weight + step / 100, solved, weight - step):
        found.append(judge.blend(weight, target, means))
        tried = [torch.lerp(weight, target, at) for at in (found[-1], *torch.linspace(0, 1, 101))]
        blended, *others = (judge.error(w, None if means is None else means.bias(w)) for w in tried)
        assert blended <= min(others)
    assert found[0].shape == (1, 1, 1)
    assert found[0] == 1
    assert 0 < found[1] < 1
    assert found[2] == 0
    assert judge.blend(weight, weight, means) == 1


@pytest.mark.parametrize("refits_bias", [False, True])
def test_fitted_to_its_own_output_a_weight_is_that_of_the_symmetric_target(refits_bias):
    layer = layer_of(w(3), k=48)
    grid = layer.range_of(layer.rows())
    q, t = samples(layer)
    own = q @ layer.rows()[0].T
    around, mean = own - own.mean(0), own.mean(0) + 1
    misled, honest = 2 * around + mean, 0.95 * around + mean

    def fit(damping, target, wanted, held):
        tuning = replace(HYBRID, damping=damping, target=target)
        sums = [moments([(q, values)], Dense()) for values in (wanted, held)]
        return fit_layer(layer, tuning, grid, *sums, refits_bias=refits_bias)

    # targets are tried where there is a choice of dampings
    found = fit((0.1, 0.1), "asymmetric", misled, honest)
    symmetric = fit((0.1,), "symmetric", t, own)
    assert (found.blend, symmetric.blend) == (0, 1)
    assert torch.equal(found.codes, symmetric.codes)
    assert torch.equal(found.scale, symmetric.scale)
    if refits_bias:  # which stays with the wanted output
        assert torch.allclose(found.bias, symmetric.bias + 1, atol=1e-6)


def test_dampings_that_are_tried_together_give_what_they_give_alone(monkeypatch):
    """Wide factors are not held side by side: then one is tried after the other."""
    layer = layer_of(w(3), k=48)
    together = [fitted(layer, n=n) for n in (20, 40, 4000)]
    monkeypatch.setattr(layer_solver, "AT_ONCE", 1)
    alone = [fitted(layer, n=n) for n in (20, 40, 4000)]
    assert len({found.damping for found in alone}) > 1
    for one, other in zip(together, alone, strict=True):
        assert (one.damping, one.blend) == (other.damping, other.blend)
        assert torch.equal(one.codes, other.codes)


def test_where_both_targets_are_one_the_wanted_output_is_said_to_be_fitted():
    layer = layer_of(w(3))
    q, _ = samples(layer)
    both = moments([(q, q @ layer.rows()[0].T)], Dense())
    found = fit_layer(layer, HYBRID, layer.range_of(layer.rows()), both, both, refits_bias=True)
    assert found.damping > 0
    assert found.blend == 1


@pytest.mark.parametrize("refits_bias", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_behind_an_exact_prefix_all_of_the_way_is_gone(refits_bias, seed):
    """What the two ends differ by is the rounding of sums in float32."""
    layer = layer_of(w(3), k=48)

    def streams(n, seed):
        q = samples(layer, n=n, seed=seed)[0].float()
        return moments([(q, q @ layer.rows()[0].T.float() + 0.3)], Dense())

    fit, held = streams(400, seed), streams(100, seed + 10)
    grid = layer.range_of(layer.rows())
    found = fit_layer(layer, HYBRID, grid, fit, held, refits_bias=refits_bias)
    assert found.damping > 0
    assert found.blend == 1
    judge = layer_solver._Judge(held, None)
    assert judge.blend(layer.rows(), layer.rows(), None) == 1


def test_each_group_goes_its_own_part_of_the_way():
    geometry = Convolution((3,), (1,), ((1, 1),), (1,), 2)
    layer = Layer(draw(2, 1, 3).float(), w(4), 0, geometry)
    x = draw(50, 2, 9, seed=1).float()
    own = torch.nn.functional.conv1d(x, layer.weight, padding=1, groups=2)
    judge = layer_solver._Judge(moments([(x, own * torch.tensor([[1.0], [1.5]]))], geometry), None)
    weight = layer.rows()
    blend = judge.blend(weight, 2 * weight, None)
    assert blend.flatten().tolist() == pytest.approx([0, 0.5], abs=1e-5)
    ridge = layer_solver.Ridge(2 * weight, weight, None).blended(weight, blend)
    assert ridge.blend == pytest.approx(0.25, abs=1e-5)
    assert torch.allclose(ridge.target, weight * torch.tensor([1, 1.5])[:, None, None], atol=1e-4)


def test_important_outputs_decide_how_far_to_go():
    layer = layer_of(w(4), out=2)
    q, _ = samples(layer)
    own = q @ layer.rows()[0].T
    held = moments([(q, own * torch.tensor([1.0, 2.0]))], Dense())
    weight = layer.rows()
    for importance, expected in (([1.0, 0.0], 0), ([0.0, 1.0], 1)):
        judge = layer_solver._Judge(held, torch.tensor([importance]).double())
        assert judge.blend(weight, 2 * weight, None).item() == pytest.approx(expected, abs=1e-6)


def test_dead_inputs_and_rank_deficiency_are_survived():
    layer = layer_of(w(3))
    q, t = samples(layer, n=6)
    q[:, 3] = 0
    found = fit_layer(
        layer,
        replace(HYBRID, damping=(0.01,)),
        layer.range_of(layer.rows()),
        moments([(q, t)], Dense()),
        None,
        refits_bias=True,
    )
    assert bool(torch.isfinite(found.weight).all())
    assert bool((found.scale > 0).all())


def test_useless_moments_are_refused():
    layer = layer_of(w(3))
    fit = moments([samples(layer)], Dense())
    bad = Moments(fit.gram * torch.nan, fit.cross, fit.mean_input, fit.mean_target, fit.power, 1)
    with pytest.raises(NotPositiveDefiniteError):
        ridge(layer.rows(), bad, 0.01)


def test_groups_find_their_range_by_what_an_input_costs():
    layer = layer_of(w(3, PerGroup(size=4), symmetric=True))
    costs = torch.ones(1, 16).double()
    alike = layer.range_of(layer.rows())
    assert torch.equal(layer.range_of(layer.rows(), costs).scale, alike.scale)
    costs[0, 5] = 1e6  # of four inputs the second, and hardly another
    found = layer.range_of(layer.rows(), costs)

    def off(grid):
        grouped = layer.grouping.view(layer.weight)
        return float((grid.fake_quantize(grouped) - grouped)[:, 1, 1].square().mean())

    assert off(found) < 0.25 * off(alike)


@pytest.mark.parametrize("spec", [w(3, symmetric=True), w(3, PerGroup(size=4))])
def test_a_whole_row_or_a_zero_point_finds_the_same_range_whatever_inputs_cost(spec):
    layer = layer_of(spec)
    costs = torch.arange(1.0, 17.0)[None].double()
    assert torch.equal(
        layer.range_of(layer.rows(), costs).scale, layer.range_of(layer.rows()).scale
    )


def test_ranges_of_groups_by_cost_pay_where_inputs_differ(monkeypatch):
    by_cost, alike = [], []
    plain = Layer.range_of
    tuning = replace(HYBRID, damping=(0.01,))
    for seed in range(6):
        layer = layer_of(w(3, PerGroup(size=8), symmetric=True), out=48, seed=seed)
        q = draw(400, 16, seed=seed + 50) * (1 + 9 * (torch.arange(16) % 8 == 3))
        both = moments([(q, q @ layer.rows()[0].T)], Dense())

        def solved(layer=layer, both=both):
            grid = plain(layer, layer.rows())
            found = fit_layer(layer, tuning, grid, both, None, refits_bias=False)
            return float(both.error(found.weight).sum())

        by_cost.append(solved())
        monkeypatch.setattr(Layer, "range_of", lambda self, rows, _=None: plain(self, rows))
        alike.append(solved())
        monkeypatch.undo()
    assert sum(by_cost) < 0.9 * sum(alike)

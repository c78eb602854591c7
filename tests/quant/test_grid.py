"""Grids against published and closed-form numbers."""

from statistics import NormalDist

import pytest
import torch
import torch.autograd.forward_ad as fwAD

from qcompile.quant.grid import Grid, check, covering

FLOAT32_TINY = torch.finfo(torch.float32).tiny


def gaussian() -> torch.Tensor:
    """``Phi^-1((i - 0.5) / 4096)``, i = 1..4096."""
    normal = NormalDist()
    values = [normal.inv_cdf((i - 0.5) / 4096) for i in range(1, 4097)]
    return torch.tensor(values, dtype=torch.float64)


def grid(scale, qmin, qmax, zero_point=0.0) -> Grid:
    scale = torch.as_tensor(scale, dtype=torch.float64).reshape(1)
    return Grid(scale, torch.full_like(scale, zero_point), qmin, qmax)


@pytest.mark.parametrize(
    ("clip", "last_code", "qmin", "qmax", "mse"),
    [
        (1.0, 7, -7, 7, 0.0228803955),
        (0.675, 7, -7, 7, 0.0127659563),
        (1.0, 8, -8, 7, 0.0175641534),
        (0.74, 8, -8, 7, 0.0117465535),
        (0.335, 1, -1, 1, 0.1899594272),
        (0.53, 3, -3, 3, 0.0466983035),
    ],
)
def test_error_on_the_gaussian_reference_tensor(clip, last_code, qmin, qmax, mse):
    x = gaussian()
    found = grid(x.max() * clip / last_code, qmin, qmax).fake_quantize(x).sub(x).square().mean()
    assert float(found) == pytest.approx(mse, abs=1e-9)


def test_rounding_is_half_to_even():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], dtype=torch.float64)
    assert grid(1.0, -8, 7).quantize(x).tolist() == [0, 2, 2, 0, -2, -2]


def test_codes_saturate():
    x = torch.tensor([-1e30, -9.0, 8.0, float("inf")], dtype=torch.float64)
    assert grid(1.0, -8, 7).quantize(x).tolist() == [-8, -8, 7, 7]


def test_fake_quantize_equals_the_two_steps_bit_for_bit():
    x = torch.linspace(-3, 5, 1001, dtype=torch.float64)
    g = grid(0.37, 0, 15, zero_point=6.0)
    assert torch.equal(g.fake_quantize(x), g.dequantize(g.quantize(x)))


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_fake_quantize_leaves_its_input_alone(scale):
    x = torch.tensor([-3.2, 0.4, 9.0], dtype=torch.float64)
    grid(scale, -4, 3).fake_quantize(x)
    assert x.tolist() == [-3.2, 0.4, 9.0]


@pytest.mark.parametrize("transform", ["vmap", "jvp", "grad", "forward"])
def test_fake_quantize_is_the_same_inside_of_function_transforms(transform):
    """Which know no operations that write into given memory."""
    found = grid(0.5, -4, 3)
    x = torch.tensor([[-3.2, 0.4], [0.9, 9.0]], dtype=torch.float64)
    expected = found.fake_quantize(x)
    match transform:
        case "vmap":
            assert torch.equal(torch.vmap(found.fake_quantize)(x), expected)
        case "jvp":
            value, slope = torch.func.jvp(found.fake_quantize, (x,), (torch.ones_like(x),))
            assert torch.equal(value, expected)
            assert not slope.any()
        case "grad":
            slope = torch.func.grad(lambda x: found.fake_quantize(x).sum())(x)
            assert not slope.any()
        case "forward":
            with fwAD.dual_level():
                value = found.fake_quantize(fwAD.make_dual(x, torch.ones_like(x)))
                assert torch.equal(fwAD.unpack_dual(value).primal, expected)


def test_the_scale_of_fake_quantize_has_a_gradient():
    """Codes are constants to it: the sum of codes."""
    scale = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([-3.2, 0.4, 9.0], dtype=torch.float64)
    Grid(scale, torch.zeros(1, dtype=torch.float64), -4, 3).fake_quantize(x).sum().backward()
    assert scale.grad.tolist() == [-4 + 1 + 3]


def test_fake_quantize_keeps_the_dtype():
    x = torch.tensor([0.3, 1.7], dtype=torch.bfloat16)
    assert grid(0.5, -8, 7).fake_quantize(x).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "broken",
    [
        grid(0.0, 0, 15),
        grid(-1.0, 0, 15),
        grid(float("nan"), 0, 15),
        grid(float("inf"), 0, 15),
        grid(FLOAT32_TINY / 2, 0, 15),
        grid(1.0, 0, 15, zero_point=16.0),
        grid(1.0, 0, 15, zero_point=0.5),
        grid(1.0, 3, 3),
        Grid(torch.ones(2), torch.zeros(1), 0, 15),
        Grid(torch.ones(1), torch.zeros(1, dtype=torch.float64), 0, 15),
        Grid(torch.ones(1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32), 0, 15),
    ],
)
def test_each_broken_invariant_is_refused(broken):
    with pytest.raises(ValueError, match=r"."):
        check(broken)


def cover(low, high, qmin, qmax, symmetric) -> Grid:
    found = covering(torch.tensor([low]), torch.tensor([high]), qmin, qmax, symmetric=symmetric)
    check(found)
    return found


def test_the_extra_negative_code_is_used_when_the_minimum_is_the_larger_end():
    assert float(cover(-8.0, 7.0, -8, 7, True).scale) == 1.0
    assert float(cover(-7.0, 7.0, -8, 7, True).scale) == 1.0
    assert float(cover(-16.0, 7.0, -8, 7, True).scale) == 2.0


def test_unsigned_symmetric_covers_only_what_is_above_zero():
    found = cover(-3.0, 30.0, 0, 15, True)
    assert float(found.scale) == 2.0
    assert found.fake_quantize(torch.tensor([-3.0])).item() == 0.0


@pytest.mark.parametrize(("low", "high"), [(2.0, 6.0), (-6.0, -2.0), (-1.0, 5.0)])
def test_zero_is_exact_on_every_asymmetric_grid(low, high):
    found = cover(low, high, 0, 15, False)
    assert found.fake_quantize(torch.zeros(1)).item() == 0.0


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-40, -1e-45, FLOAT32_TINY, 3e38, -3e38, 7.0, -7.0])
def test_any_constant_has_a_legal_grid_within_half_a_step(value, symmetric):
    for qmin, qmax in ((-2, 1), (-128, 127), (0, 3), (0, 255)):
        if symmetric and qmin == 0 and value < 0:
            continue  # a symmetric unsigned grid has nothing below zero
        found = cover(min(value, 0.0), max(value, 0.0), qmin, qmax, symmetric)
        wide = Grid(found.scale.double(), found.zero_point.double(), qmin, qmax)
        x = torch.tensor([value]).double()
        half = float(wide.scale) / 2
        assert abs(float(wide.fake_quantize(x) - x)) <= half * (1 + 1e-6)
        assert torch.isfinite(found.quantize(x.float())).all()

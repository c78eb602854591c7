"""Every variable on every grid: where it starts, what it may reach, what it ends on."""

import pytest
import torch

from qcompile.methods.tuning import Tuning
from qcompile.policy.number_format import IntFormat, SumFormat, named
from qcompile.policy.scheme import PerChannel, QuantSlot
from qcompile.policy.slot_rules import initial
from qcompile.quant.grid import Grid
from qcompile.quant.learned_code import learned_code
from qcompile.quant.level_grid import LevelGrid
from qcompile.quant.level_learned import LevelLearned
from qcompile.quant.level_weight import quantize_levels
from qcompile.quant.levels import power_levels
from qcompile.quant.quantized_weight import quantize_weight
from qcompile.quant.range_search import weight_range
from qcompile.quant.uniform_learned import UniformLearned
from qcompile.quant.variables.annealed import soft_round
from qcompile.quant.variables.registry import VARIABLES, variable
from qcompile.quant.variables.variable import Start

NAMES = [name for name, _ in VARIABLES]
ON_GRID = [name for name, made in VARIABLES if not made.has_gap]
TWO_BITS = IntFormat(2, signed=True)
FORMATS = [
    *(named(word) for word in ("int2", "uint3", "int4", "power3", "nf4", "codebook2")),
    *(named(word) for word in ("fp8_e4m3", "mxfp4", "nvfp4")),
    SumFormat((TWO_BITS, TWO_BITS)),
]


def tuning(name, **update):
    return Tuning(preset="x", solvers=("rtn", "gradient"), steps=100, variable=name, **update)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 3


def stored(number, weight):
    spec = initial("weight", number) if not isinstance(number, IntFormat) else slot(number)
    if isinstance(number, IntFormat):
        return quantize_weight(weight, spec, 0, weight_range(weight, spec, 0))
    return quantize_levels(weight, spec, 0)


def slot(number):
    return QuantSlot(format=number, symmetric=number.signed, granularity=PerChannel())


def started(name, number, *, shift=None, learn=()):
    """A weight, its code taken apart, and the variable on it."""
    weight = draw(6, 32)
    code = learned_code(stored(number, weight), learn)
    grouped = code.view.view(weight if code.base is None else weight - code.base)
    steps = None
    if shift is not None:
        steps = code.grid.position_of(code.start()) + shift
        steps = code.grid.position_of(code.grid.codes(steps))
    start = Start(grouped, code.grid, steps, tuning(name))
    return start, code, variable(start)


@pytest.mark.parametrize("number", FORMATS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_before_the_first_step_the_result_is_nearest_rounding(name, number):
    _, code, found = started(name, number)
    assert torch.equal(code.grid.codes(found.steps()), code.start().to(torch.int16))


@pytest.mark.parametrize("number", FORMATS, ids=str)
@pytest.mark.parametrize("name", ON_GRID)
def test_a_variable_without_a_gap_is_on_the_grid_at_every_step(name, number):
    _, code, found = started(name, number)
    for part in found.learned():
        part.data.add_(draw(*part.shape, seed=3))
    found.prepare(1)
    shipped = code.stored(code.grid.codes(found.steps())).dequantize(torch.float32)
    if code.base is not None:
        shipped = shipped - code.base
    assert torch.allclose(found.value(), code.view.view(shipped), rtol=0, atol=1e-6)
    assert found.soft_share == 0


@pytest.mark.parametrize("number", FORMATS, ids=str)
@pytest.mark.parametrize("name", ["gate", "categorical", "annealed"])
def test_a_soft_variable_starts_at_the_weight(name, number):
    """But for what is clipped, the inset of a gate and the outer candidates of a softmax."""
    start, code, found = started(name, number)
    found.prepare(0)
    position = code.grid.position(start.weight)
    inside = code.grid.at(position).isclose(start.weight, rtol=1e-5, atol=1e-6)
    assert inside.double().mean() > 0.4
    step = (code.grid.at(position + 1) - code.grid.at(position - 1)).abs()
    off = (found.value() - start.weight).abs()
    assert bool((off <= 0.04 * step + 1e-6)[inside].all())


@pytest.mark.parametrize("number", FORMATS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_start_from_codes_is_at_those_codes(name, number):
    shift = torch.randint(-1, 2, (6, 32), generator=torch.Generator().manual_seed(4))
    start, code, found = started(name, number, shift=shift.reshape(learned_shape(number)))
    wanted = code.grid.codes(start.steps)
    reached = code.grid.codes(found.steps()) == wanted
    if name == "division":  # no factor changes a sign
        same = torch.sign(code.grid.at(start.steps)) * torch.sign(start.weight) > 0
        reached = reached[same]
    assert bool(reached.all())


def learned_shape(number):
    view = learned_code(stored(number, draw(6, 32)), ()).view
    return (view.outer, view.groups, view.size)


@pytest.mark.parametrize("number", FORMATS[:6], ids=str)
@pytest.mark.parametrize("name", ["gate", "categorical", "annealed"])
def test_soft_equals_hard_once_it_is_decided(name, number):
    _, code, found = started(name, number)
    for part in found.learned():
        if name != "annealed":
            part.data.mul_(1e4)
    found.prepare(99)
    shipped = code.stored(code.grid.codes(found.steps())).dequantize(torch.float32)
    # a weight counts as decided within 5% of a step
    step = (code.grid.at(found.steps() + 1) - code.grid.at(found.steps() - 1)).abs()
    decided = (found.value() - code.view.view(shipped)).abs() <= 0.05 * step + 1e-6
    assert float((~decided).double().mean()) <= found.soft_share + 1e-9
    assert found.soft_share < 0.02


def test_soft_share_counts_what_lies_between_codes():
    _, _, found = started("annealed", TWO_BITS)
    found.prepare(0)
    assert found.soft_share > 0.5
    found.prepare(99)
    assert found.soft_share < 0.02
    _, _, found = started("categorical", TWO_BITS)
    found.prepare(0)
    assert found.soft_share > 0.5


def test_soft_round_is_the_identity_when_hot_and_rounding_when_cold():
    x = torch.linspace(-2.3, 2.4, 48, dtype=torch.float64)
    assert torch.allclose(soft_round(x, 1e4), x, atol=1e-8)
    away = (x - x.floor() - 0.5).abs() > 0.02
    assert torch.allclose(soft_round(x, 1e-3)[away], torch.round(x)[away], atol=1e-12)
    assert soft_round(torch.tensor(0.75, dtype=torch.float64), 0.5).item() == pytest.approx(
        0.5 + torch.tanh(torch.tensor(0.5, dtype=torch.float64)).item() / (2 * 0.7615941559557649)
    )


def test_an_offset_stays_within_half_a_step_and_a_weight_does_not():
    start, code, additive = started("additive", IntFormat(4, signed=True))
    additive.offset.data.fill_(3.0)
    off = additive.steps() - code.grid.position(start.weight)
    assert bool((off <= 1.0).all())
    _, _, free = started("weight", IntFormat(4, signed=True))
    before = free.steps()
    free.free.data.add_(3.0)
    assert torch.equal(free.steps() - before, torch.full_like(before, 3.0))


def test_division_moves_large_weights_more():
    start, _, found = started("division", IntFormat(4, signed=True))
    found.value().sum().backward()
    grad = found.each.grad
    assert grad is not None
    clipped = grad == 0
    assert torch.allclose(grad[~clipped], -start.weight[~clipped], rtol=1e-4, atol=1e-6)
    assert torch.allclose(found.row.grad, grad.sum(-1, keepdim=True), atol=1e-5)
    assert torch.allclose(found.column.grad, grad.sum(0, keepdim=True), atol=1e-5)


def test_gradient_by_the_scale_is_that_of_learned_steps():
    """LSQ, 1902.08153: ``round(v) - v`` inside, the last code where it is clipped."""
    grid = UniformLearned(
        Grid(torch.tensor([0.3]), torch.tensor([0.0]), -4, 3), ("scale", "zero_point")
    )
    v = torch.tensor([-1.5, -0.2, 0.04, 0.37, 0.8, 2.2])
    values = grid.rounded(grid.position(v))
    expected = [-4, -1 / 3, -0.1333333, -0.2333333, 1 / 3, 3]
    for value, wanted in zip(values, expected, strict=True):
        # the parameter is a logarithm: d/dlog s = s d/ds
        growth, _ = torch.autograd.grad(value, grid.learned(), retain_graph=True)
        assert growth.item() == pytest.approx(0.3 * wanted, abs=1e-6)
    # a zero point moves what is clipped, the other way, by (qmax - qmin) steps
    by_shift = [torch.autograd.grad(v, grid.learned(), retain_graph=True)[1].item() for v in values]
    assert by_shift == pytest.approx([-0.3 * 7, 0, 0, 0, 0, -0.3 * 7], abs=1e-6)


def test_gate_gradient_by_a_moving_grid_is_that_of_autograd():
    start, code, found = started("gate", IntFormat(3, signed=False), learn=("scale", "zero_point"))
    pull = draw(*start.weight.shape, seed=9)
    by_hand = torch.autograd.grad((found.value() * pull).sum(), code.grid.learned())
    opened = torch.sigmoid(found.variable) * 1.2 - 0.1
    grid = code.grid
    codes = (found.floor + opened.clamp(0, 1) + grid.zero_point).clamp(0, 7)
    soft = grid.scale * (codes - grid.zero_point)
    by_autograd = torch.autograd.grad((soft * pull).sum(), grid.learned())
    for one, other in zip(by_hand, by_autograd, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def power_grid(exponent, learn=("exponent",)):
    start = LevelGrid(power_levels(4, exponent), torch.tensor([0.5]))
    return LevelLearned(start, named("power4"), learn, torch.tensor([exponent]))


def test_gradient_by_the_exponent_is_a_finite_difference():
    position = torch.tensor([0.3, 4.4, 7.0, 9.6, 12.2, 14.0])
    grid = power_grid(0.7)
    [slope] = torch.autograd.grad(grid.at(position).sum(), grid.learned())
    near = [power_grid(0.7 * (1 + e)).at(position).double().sum().item() for e in (-1e-3, 1e-3)]
    assert slope.item() == pytest.approx((near[1] - near[0]) / 2e-3, rel=1e-3)


def test_power_one_is_the_uniform_grid():
    x = draw(500)
    power = power_grid(1.0, ())
    uniform = UniformLearned(Grid(torch.tensor([0.5 / 7]), torch.tensor([0.0]), -7, 7))
    assert torch.allclose(
        power.rounded(power.position(x)), uniform.rounded(uniform.position(x)), atol=1e-6
    )
    assert torch.equal(power.codes(power.position(x)) - 7, uniform.codes(uniform.position(x)))


def test_a_level_gets_the_gradient_of_the_weights_that_are_on_it():
    book = torch.tensor([0.9, -1.0, 0.1, -0.3])
    grid = LevelLearned(LevelGrid(book, torch.tensor([2.0])), named("codebook2"), ("levels",), None)
    x = torch.tensor([-1.9, -0.5, -0.7, 0.3, 0.2, 2.5])
    values = grid.rounded(grid.position(x))
    assert values.tolist() == pytest.approx([-2.0, -0.6, -0.6, 0.2, 0.2, 1.8])
    gaps, first = torch.autograd.grad(values.sum(), grid.learned())
    assert first.item() == pytest.approx(2.0 * 6)  # all levels hang on the first
    # a gap moves all levels above it: five, three and one of the six weights
    assert gaps.tolist() == pytest.approx([2 * 5 * 0.7, 2 * 3 * 0.4, 2 * 1 * 0.8], rel=1e-5)
    assert torch.allclose(grid.levels, book)


def test_gradient_by_a_weight_between_levels_is_straight_through():
    grid = LevelLearned(LevelGrid(torch.tensor([-1.0, 0.0, 0.2, 1.0]), torch.tensor([1.0])), None)
    x = torch.tensor([-0.9, 0.05, 0.19, 0.7, 1.05, 2.5], requires_grad=True)
    values = grid.rounded(grid.position(x))
    assert values.tolist() == pytest.approx([-1, 0, 0.2, 1, 1, 1])
    values.sum().backward()
    assert x.grad.tolist() == pytest.approx([1, 1, 1, 1, 1, 0])


@pytest.mark.parametrize("word", ["power3", "codebook2", "int3", "uint3", "nf4"])
def test_what_is_stored_is_the_learned_grid(word):
    learn = ("scale", "zero_point", "exponent", "levels")
    _, code, found = started("weight", named(word), learn=learn)
    parts = code.grid.learned()
    assert parts
    for number, part in enumerate(parts):
        part.data.add_(0.2 * draw(*part.shape, seed=20 + number).abs())
    shipped = code.stored(code.grid.codes(found.steps())).dequantize(torch.float32)
    assert torch.allclose(code.view.view(shipped), found.value(), rtol=1e-5, atol=1e-6)

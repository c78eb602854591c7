"""Shortcuts in codes: one operand of an addition on a grid, from the recipe to the kernels."""

from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qcompile
from qcompile.compat.cpu_features import multiplies_bytes
from qcompile.compat.onednn_operations import onednn
from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from qcompile.driver.load import lowering
from qcompile.emit.lower.code_sums import add_codes
from qcompile.emit.lower.kernels import max_pool_codes, quantize

needs_vnni = pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")

RECIPE = """qrecipe 1
scheme layers {
  weight int8 symmetric per_channel
  act uint8 asymmetric per_tensor
}
scheme shortcut {
  SLOTS
}
policy main {
  use layers for conv or linear
  use shortcut for add
}
calibrate {
  data = "given.as:tensor"
  samples = 16
  batch = 16
  seed = 1
}
tune rtn
"""
SHORTCUT = "act2 uint8 asymmetric per_tensor"


def images(count, seed=0, channels=3):
    return torch.randn(count, channels, 16, 16, generator=torch.Generator().manual_seed(seed))


def made_of(net, tmp_path, slots=SHORTCUT):
    """The simulation, what it becomes for x86, and the report."""
    torch.manual_seed(1)
    for part in net.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=0.3)
    recipe = check_source(Source("r.qrecipe", RECIPE.replace("SLOTS", slots))).recipe
    bound = qcompile.bind(recipe, net.eval(), (images(2),))
    data = images(16, seed=5)
    plan = qcompile.plan(bound, data)
    simulation = qcompile.run(plan, tmp_path / "made", bound=bound, data=data)
    made = lowering(tmp_path / "made", "x86-int8")
    return simulation, made.module, made.report


def targets(module):
    return [node.target for node in module.graph.nodes if node.op == "call_function"]


def sums_in_kernels(module):
    return targets(module).count(onednn().conv2d_add)


def same(simulation, module):
    for count in (1, 5):
        x = images(count, seed=count)
        before = x.clone()
        for _ in range(2):
            assert torch.equal(module(x), simulation(x))
        assert torch.equal(x, before)
    return True


class Block(nn.Module):
    def __init__(self, inside, outside, stride=1):
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1)
        self.second = nn.Conv2d(outside, outside, 3, padding=1)
        plain = stride == 1 and inside == outside
        self.shortcut = nn.Identity() if plain else nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class Residual(nn.Module):
    """A stem with a pooling, blocks of both kinds, and a head that reads floats."""

    def __init__(self):
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential(Block(8, 8), Block(8, 16, 2), Block(16, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.blocks(self.pool(torch.relu(self.stem(x))))
        return self.head(x.mean((2, 3)))


@needs_vnni
def test_a_chain_of_blocks_is_codes_from_end_to_end(tmp_path):
    simulation, module, report = made_of(Residual(), tmp_path)
    conv, with_sum = onednn().conv2d, onednn().conv2d_add
    block, strided = [conv, with_sum], [conv, conv, with_sum]
    assert [t for t in targets(module) if t in (conv, with_sum, quantize, max_pool_codes)] == [
        *(quantize, conv, max_pool_codes),
        *(*block, *strided, conv, conv),
        quantize,
    ]
    assert targets(module).count(add_codes) == 1, "the last one is read as floats"
    by_key = {layer.key: layer for layer in report.layers}
    assert by_key["blocks.0.second"].fused == ("add", "relu", "quantize")
    assert by_key["blocks.0.add"].kernel == by_key["blocks.1.add"].kernel == "onednn_sum"
    (last,) = report.in_float
    assert last.key == "blocks.2.add"
    assert "writes codes" in last.because
    assert same(simulation, module)
    assert report.difference == 0


class Sums(nn.Module):
    """What becomes of a shortcut, and of the sum, besides being added and read by a layer."""

    def __init__(self, kind):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.before = nn.Conv2d(4, 4, 1)
        self.other, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.small, self.tiny = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)
        self.kind = kind

    def forward(self, x):
        if self.kind == "the model's input":
            return self.small(self.tiny(self.small(x)) + x)
        y = torch.relu(self.stem(x))
        match self.kind:
            case "behind a pooling":
                y = F.max_pool2d(y, 2)
            case "behind a pooling of one pixel":
                y = F.max_pool2d(y, 1)
            case _:
                pass
        if self.kind == "what the layer reads":
            return self.last(self.conv(y) + y)
        return self.sum(self.conv(self.before(y)), y)

    def sum(self, z, y):
        match self.kind:
            case "relu6":
                return self.last(F.relu6(z + y))
            case "in place":
                z += y
                return self.last(torch.relu_(z))
            case "read later":
                return self.last(z + y) + self.other(y)
            case "read as floats":
                z = z + y
                return self.last(z) * z
            case "broadcast":
                return self.last(z + y[:, :, :1, :1])
            case _:
                return self.last(z + y)


IN_A_KERNEL = ("plain", "in place", "the model's input", "behind a pooling")
NOT = ("what the layer reads", "relu6", "read later", "read as floats", "broadcast")
ANY = ("behind a pooling of one pixel",)


@needs_vnni
@pytest.mark.parametrize("kind", [*IN_A_KERNEL, *NOT, *ANY])
def test_a_kernel_adds_codes_where_codes_come_of_it_and_nobody_reads_what_it_overwrites(
    tmp_path, kind
):
    simulation, module, _ = made_of(Sums(kind), tmp_path)
    if kind not in ANY:
        assert sums_in_kernels(module) == (kind in IN_A_KERNEL)
    assert same(simulation, module)


@needs_vnni
def test_codes_that_are_read_again_are_not_written_over(tmp_path):
    """``y`` is read by two additions: only the second is the last to look at it."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
            self.before = nn.Conv2d(4, 4, 1)
            self.one, self.two = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))

        def forward(self, x):
            y = torch.relu(self.stem(x))
            z = torch.relu(self.one(self.before(y)) + y)
            return self.last(torch.relu(self.two(z) + y))

    simulation, module, report = made_of(Twice(), tmp_path)
    assert sums_in_kernels(module) == 1
    assert [layer.key for layer in report.in_float] == ["add"]
    assert same(simulation, module)


class Crossing(nn.Module):
    """Another layer reads the shortcut in front of the sum, and is done behind it."""

    def __init__(self, is_sum):
        super().__init__()
        self.stem, self.before = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.a, self.b = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.last, self.end = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.is_sum = is_sum

    def forward(self, x):
        y = torch.relu(self.stem(x))
        b = self.b(self.before(y))
        a = self.a(y)
        z = self.last(torch.relu(b + y))
        return self.end(torch.relu(a + z if self.is_sum else a)) + z


@needs_vnni
@pytest.mark.parametrize("is_sum", [True, False])
def test_what_is_read_by_a_layer_that_ends_later_is_not_written_over(tmp_path, is_sum):
    simulation, module, _ = made_of(Crossing(is_sum), tmp_path)
    assert same(simulation, module)


@needs_vnni
@pytest.mark.parametrize(
    ("slots", "count"),
    [
        ("act2 uint4 asymmetric per_tensor", 1),
        ("act2 int8 symmetric per_tensor", 1),
        ("act2 uint8 asymmetric per_tensor observer=minmax", 1),
        ("act uint8 asymmetric per_tensor", 0),
        ("act uint8 asymmetric per_tensor\n  act2 float", 0),
        ("act2 uint8 asymmetric per_tensor dynamic", 0),
        (SHORTCUT, 1),
    ],
)
def test_a_static_grid_of_one_operand_is_added_in_a_kernel(tmp_path, slots, count):
    simulation, module, _ = made_of(Sums("plain"), tmp_path, slots)
    assert sums_in_kernels(module) == count
    assert same(simulation, module)


@needs_vnni
def test_a_sum_that_becomes_codes_of_two_grids_is_in_no_kernel(tmp_path):
    """The first is read by two layers, the second by a layer and as a shortcut of another range."""
    simulation, module, report = made_of(Residual(), tmp_path, f"{SHORTCUT} observer=clip(0.7)")
    assert sums_in_kernels(module) == 1
    assert [layer.key for layer in report.in_float] == ["blocks.1.add", "blocks.2.add"]
    assert same(simulation, module)


@needs_vnni
def test_a_quantized_first_operand_is_a_shortcut_as_well(tmp_path):
    class Before(Sums):
        def forward(self, x):
            y = torch.relu(self.stem(x))
            return self.last(y + self.conv(self.before(y)))

    slots = "act uint8 asymmetric per_tensor\n  act2 float"
    simulation, module, _ = made_of(Before("plain"), tmp_path, slots)
    assert sums_in_kernels(module) == 1
    assert same(simulation, module)


def test_the_sum_is_the_nearest_number_to_the_exact_one():
    """As a fused multiplication rounds it; with a product rounded first it is the next one."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(400, generator=generator)
    codes = torch.randint(0, 256, (400,), generator=generator, dtype=torch.uint8)
    scale, zero_point = torch.tensor(0.037).item(), 91
    made = add_codes(x, codes, scale, zero_point)
    rows = zip(x.tolist(), codes.tolist(), made, strict=True)
    for one, code, sum_ in rows:
        exact = Fraction(one) + (code - zero_point) * Fraction(scale)
        around = (torch.nextafter(sum_, torch.tensor(end)) for end in (-torch.inf, torch.inf))
        off = abs(Fraction(sum_.item()) - exact)
        assert all(off <= abs(Fraction(other.item()) - exact) for other in around)
    twice = x + (codes.float() - zero_point) * scale
    assert not torch.equal(made, twice)
    assert torch.equal(made, add_codes(x, codes.float(), scale, zero_point))

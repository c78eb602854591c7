"""Each rule of the analysis on a model where it must speak and on one where it must not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source
from qcompile.driver.bind import bind
from qcompile.driver.front import check_source
from tests.analysis.findings import IMAGE, SEQUENCE, findings
from tests.analysis.named_graphs import Layers, attention, dense_block, gated_mlp
from tests.tiny_models import ConvNet, Mlp, ResidualNet, seeded


def of_code(code, found):
    return [item for item in found if item.code is code]


def one(code, found):
    (item,) = of_code(code, found)
    return item


# ---- QR503, QR504 -----------------------------------------------------------------------------


def test_operands_of_an_addition_on_two_grids():
    found = one(Code.ADD_GRIDS, findings(ResidualNet(), IMAGE, 'use mixed for "blocks.0.add"'))
    assert found.message == (
        "the inputs of `blocks.0.add` need one scale, but get uint8 asymmetric per_tensor "
        "and uint4 asymmetric per_tensor"
    )
    assert found.notes == ("they are tied by blocks.0.conv2 -[blocks.0.add]- blocks.0.down",)
    assert found.primary.span.text == "act2 uint4"


def test_codes_that_are_added_to_floats_need_no_common_grid():
    rules = ('use half for "blocks.0.add"', 'use a4 for "blocks.1.add"')
    assert not of_code(Code.ADD_GRIDS, findings(ResidualNet(), IMAGE, *rules))


def test_two_additions_of_one_value_are_tied():
    def program(m, x):
        first = m.a(x)
        return m.d(first + m.b(x)) * m.e(first.transpose(1, 2).transpose(1, 2) + m.c(x))

    rules = ("use a8 for add", 'use a4 for "add_1"')
    found = one(Code.ADD_GRIDS, findings(Layers(program), SEQUENCE, *rules))
    assert "`add` and `add_1` need one scale" in found.message
    assert found.notes == (
        "they are tied by a -[transpose]- transpose -[transpose_1]- transpose_1",
    )


def test_additions_in_series_may_differ():
    rules = ("use a8 for add", 'use a4 for "add_1"')
    model = Layers(lambda m, x: m.a(x) + m.b(x) + m.c(x))
    assert not of_code(Code.ADD_GRIDS, findings(model, SEQUENCE, *rules))


def test_an_addition_in_float_ties_nothing():
    rules = ('use w8a8 for "a"', 'use w4 for "b"')
    model = Layers(lambda m, x: m.c(m.a(x) + m.b(x)))
    assert not of_code(Code.ADD_GRIDS, findings(model, SEQUENCE, *rules))


def test_concatenations_that_feed_one_another_are_tied():
    rules = ("use a8 for concat", 'use a4 for "cat_1"')
    found = one(Code.CONCAT_GRIDS, findings(Layers(dense_block), SEQUENCE, *rules))
    assert "-[cat]-" in found.notes[0]


def test_a_concatenation_with_one_operand_in_float():
    found = one(Code.CONCAT_GRIDS, findings(Layers(dense_block), SEQUENCE, 'use half for "cat"'))
    assert "uint8 asymmetric per_tensor and float" in found.message


def test_one_format_for_all_operands_is_fine():
    found = findings(Layers(dense_block), SEQUENCE, "use a8 for concat")
    assert not of_code(Code.CONCAT_GRIDS, found)


# ---- QR505 ------------------------------------------------------------------------------------


def test_a_rule_for_a_folded_norm():
    found = one(
        Code.FOLDED_NORM, findings(ConvNet(), IMAGE, "use w8a8 for conv", "use a8 for norm")
    )
    assert "`bn` is folded" in found.message
    assert found.primary.span.text == "use a8 for norm"


@pytest.mark.parametrize(
    "rules", [("use w8a8 for conv or norm",), ("use w8a8 for conv", "skip norm")]
)
def test_a_rule_that_acts_elsewhere_or_keeps_the_norm(rules):
    assert not of_code(Code.FOLDED_NORM, findings(ConvNet(), IMAGE, *rules))


# ---- QR506 ------------------------------------------------------------------------------------


def test_projections_of_one_input_with_two_formats():
    rules = ("use w8 for linear", 'use w4 for "d"')
    found = one(Code.SPLIT_PROJECTIONS, findings(Layers(attention), SEQUENCE, *rules))
    assert found.message == "`b`, `c`, `d` read one input but get different weight formats"
    assert found.primary.span.text == 'use w4 for "d"'


def test_a_layer_after_the_projections_may_differ():
    rules = ("use w8 for linear", 'use w4 for "e"')
    assert not of_code(Code.SPLIT_PROJECTIONS, findings(Layers(attention), SEQUENCE, *rules))


# ---- QR509, QR510 -----------------------------------------------------------------------------


def test_a_layer_that_no_rule_decides_between_quantized_ones():
    rules = ('use w8a8 for linear except "c"',)
    model = Layers(lambda m, x: m.d(F.relu(m.c(F.relu(m.a(x))))))
    found = one(Code.FLOAT_ISLAND, findings(model, SEQUENCE, *rules))
    assert (found.subject, found.message) == ("c", "`c` stays in float between quantized sites")
    assert not of_code(Code.FLOAT_ISLAND, findings(model, SEQUENCE, *rules, 'skip "c"'))


@pytest.mark.parametrize("end", ["a", "d"])
def test_a_layer_at_an_end_is_no_island(end):
    model = Layers(lambda m, x: m.d(F.relu(m.c(F.relu(m.a(x))))))
    found = findings(model, SEQUENCE, f'use w8a8 for linear except "{end}"')
    assert not of_code(Code.FLOAT_ISLAND, found)


def test_a_layer_beside_a_path_in_float_is_no_island():
    def program(m, x):
        return m.d(m.c(m.a(x)) + m.b(x))

    found = findings(Layers(program), SEQUENCE, 'use w8a8 for "a" or "d"')
    assert [item.subject for item in of_code(Code.FLOAT_ISLAND, found)] == ["c"]


def test_an_activation_quantized_for_a_weight_in_float():
    found = one(Code.DANGLING_QUANTIZER, findings(Mlp(), torch.zeros(2, 8), 'use a8 for "fc1"'))
    assert "`fc1` multiplies a quantized operand by a float one" in found.message


def test_a_matrix_product_with_one_factor_quantized():
    model = Layers(attention)
    found = one(Code.DANGLING_QUANTIZER, findings(model, SEQUENCE, 'use half for "matmul"'))
    assert found.primary.span.text == "act uint8"
    assert not of_code(Code.DANGLING_QUANTIZER, findings(model, SEQUENCE, "use a8 for matmul"))


# ---- QR511 ------------------------------------------------------------------------------------


def test_first_last_and_depthwise_layers_below_eight_bits():
    model = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 1)
    )
    found = one(Code.SENSITIVE_LAYERS, findings(model, IMAGE, "use w4 for conv"))
    assert found.notes == (
        "0: the first layer, int4",
        "1: depthwise, int4",
        "3: the last layer, int4",
    )
    kept = findings(model, IMAGE, "use w4 for conv", 'use w8 for "0" or "3" or depthwise')
    assert not of_code(Code.SENSITIVE_LAYERS, kept)


# ---- QR513, QR518 -----------------------------------------------------------------------------


def test_a_signed_grid_for_what_is_never_negative():
    found = one(Code.WASTED_RANGE, findings(Layers(attention), SEQUENCE, 'use s8 for "matmul_1"'))
    assert found.notes == ("matmul_1: its act is in [0, 1]",)
    assert found.primary.span.text == "act int8 symmetric"


@pytest.mark.parametrize("scheme", ["u8", "a8"])
def test_an_unsigned_grid_fits_what_is_never_negative(scheme):
    model = Layers(lambda m, x: torch.sigmoid(m.a(x)) @ torch.relu(m.b(x)).mT)
    found = findings(model, SEQUENCE, f"use {scheme} for matmul")
    assert not of_code(Code.WASTED_RANGE, found)
    assert not of_code(Code.NEGATIVES_CUT, found)


def test_an_unsigned_symmetric_grid_for_what_may_be_negative():
    found = one(Code.NEGATIVES_CUT, findings(Layers(gated_mlp), SEQUENCE, "use u8 for mul"))
    assert found.notes == (
        "mul: its act is in [-0.28, inf]",
        "mul: its act2 is not known to be positive",
    )


def test_levels_of_both_signs_for_what_is_never_negative_and_of_one_for_what_may_be():
    found = findings(Layers(attention), SEQUENCE, 'use levels for "matmul_1"')
    assert one(Code.WASTED_RANGE, found).primary.span.text == "act power4"
    assert "act2 is not known to be positive" in one(Code.NEGATIVES_CUT, found).notes[0]
    found = findings(Layers(attention), SEQUENCE, 'use small_floats for "matmul_1"')
    assert not of_code(Code.WASTED_RANGE, found)
    assert not of_code(Code.NEGATIVES_CUT, found)


# ---- QR516 ------------------------------------------------------------------------------------


def test_an_operation_that_the_table_does_not_know():
    def program(m, x):
        return m.c(torch.special.xlog1py(m.a(x), m.b(x)))

    found = one(Code.UNKNOWN_OPERATION, findings(Layers(program), SEQUENCE, "use w8a8 for linear"))
    assert "xlog1py" in found.message
    assert not of_code(
        Code.UNKNOWN_OPERATION, findings(Layers(program), SEQUENCE, "use w8 for linear")
    )


# ---- QR517 ------------------------------------------------------------------------------------

WIDE = 2**31 // (255 * 255) + 1
"""Products of asymmetric 8-bit codes that no longer fit 32 bits."""


class Wide(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 2)

    def forward(self, x):
        return self.fc(x)


def overflow(width, scheme):
    text = f"qrecipe 1\nscheme s {{ {scheme} }}\npolicy main {{ use s for linear }}\n"
    recipe = check_source(Source("recipe", text)).recipe
    try:
        found = bind(recipe, seeded(Wide(width)), (torch.zeros(2, width),)).diagnostics
    except CompileError as error:
        found = error.diagnostics
    return of_code(Code.ACCUMULATOR_OVERFLOW, found)


def test_a_row_too_long_for_the_accumulator_is_refused():
    (found,) = overflow(WIDE, "weight uint8 asymmetric; act uint8")
    assert found.is_error
    assert found.notes == (f"fc: {WIDE} products, up to {WIDE * 255 * 255}, 33 bits",)


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (WIDE - 1, "weight uint8 asymmetric; act uint8"),
        (WIDE, "weight int8; act uint8"),
        (WIDE, "weight uint8 asymmetric"),
        (33_280, "weight uint8 asymmetric per_group(128); act uint8"),
    ],
)
def test_what_fits_is_not_refused(width, scheme):
    assert overflow(width, scheme) == []


# ---- QR519 ------------------------------------------------------------------------------------


class Products(nn.Module):
    """A plain layer, and a parameter that ``program`` multiplies by."""

    def __init__(self, shape, program, dtype=torch.float32):
        super().__init__()
        self.fc, self.program = nn.Linear(8, 8), program
        self.weight = nn.Parameter(torch.ones(shape, dtype=dtype))

    def forward(self, x):
        return self.program(self, self.fc(x))


def grouped(m, x):
    rows = torch.full((m.weight.shape[0],), x.shape[0], dtype=torch.int32).cumsum(0)
    return F.grouped_mm(x.repeat(m.weight.shape[0], 1), m.weight.mT, offs=rows.to(torch.int32))


def indexed(m, x):
    chosen = (x.sum(-1) > 0).long()
    return torch.bmm(m.weight[chosen], x.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize(
    ("shape", "program", "why"),
    [
        ((4, 8, 8), grouped, "it is a stack of 4 matrices"),
        ((2, 8, 8), indexed, "it is a stack of 2 matrices"),
        ((8, 8), lambda m, x: x @ m.weight.T, "it is read through `.T`"),
        (
            (16, 8),
            lambda m, x: F.linear(x, m.weight.chunk(2)[1]),
            "it is read through `chunk`, `getitem`",
        ),
    ],
)
def test_a_parameter_that_is_multiplied_by_and_stays_in_float(shape, program, why):
    model = Products(shape, program)
    found = one(Code.FLOAT_PRODUCT, findings(model, torch.zeros(3, 8), "use w8 for linear"))
    assert found.message == "`weight` stays in float: it cannot be packed the way it is used"
    assert found.notes == (f"weight {list(shape)}: {why}",)
    assert found.primary.span.text == "use w8 for linear"


def test_complex_numbers_have_no_grid():
    def program(m, x):
        return (x.to(torch.complex64) @ m.weight).real

    model = Products((8, 8), program, torch.complex64)
    found = one(Code.FLOAT_PRODUCT, findings(model, torch.zeros(3, 8), "use w8 for linear"))
    assert found.notes == ("weight [8, 8]: its numbers are complex64",)


class ComplexLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8, dtype=torch.complex64), nn.Linear(8, 4)

    def forward(self, x):
        return self.b(self.a(x.to(torch.complex64)).real)


def test_a_layer_that_no_rule_can_select_is_named_too():
    found = one(
        Code.FLOAT_PRODUCT, findings(ComplexLayer(), torch.zeros(3, 8), "use w8 for linear")
    )
    assert found.message.startswith("`a.weight` stays in float")
    assert "ignore[QR519]" in found.help


@pytest.mark.parametrize(
    "rules",
    [
        ("use w8 for linear", "skip matmul"),
        ('use w8 for "fc"',),
        ("use a8 for any",),
    ],
)
def test_a_product_that_nobody_wants_in_low_precision(rules):
    model = Products((8, 8), lambda m, x: x @ m.weight.T)
    assert not of_code(Code.FLOAT_PRODUCT, findings(model, torch.zeros(3, 8), *rules))


@pytest.mark.parametrize(
    "program",
    [lambda m, x: x @ m.weight, lambda m, x: x + m.weight[:1], lambda m, x: x * m.weight.sum(0)],
)
def test_a_weight_as_it_is_and_a_parameter_that_is_no_factor(program):
    found = findings(Products((8, 8), program), torch.zeros(3, 8), "use w8 for linear")
    assert not of_code(Code.FLOAT_PRODUCT, found)

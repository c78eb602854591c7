import pytest

from qcompile.diagnostics.codes import Severity
from qcompile.policy.assertion import Measured, check_assertions, evaluate_assertion
from qcompile.policy.resolve import resolve
from qcompile.policy.rule_ref import RuleRef
from qcompile.policy.size_part import SizePart
from tests.policy.compiled import recipe_of, small_cnn

RECIPE = """
scheme w4 { weight int4; act int6 }
scheme w8 { weight int8 }
policy main {
  use w4 for conv
  use w8 for first(conv) or linear
}
"""
SITES = small_cnn()
MEASURED = Measured(bytes_total=5_000_000, blocks=(frozenset({1, 2, 3}), frozenset({4, 5, 6})))


def judged(claim):
    recipe = recipe_of(f"{RECIPE}expect {claim}\n")
    resolution, diagnostics = resolve(recipe, SITES)
    assert diagnostics == []
    return evaluate_assertion(recipe.assertions[0], SITES, resolution, MEASURED)


@pytest.mark.parametrize(
    "claim",
    [
        "count(conv) == 5",
        "count(scheme(w4)) == 4",
        "2 * count(scheme(w8)) - 1 == 3",
        "exists(linear and quantized)",
        "none(add and quantized)",
        "none((conv or linear) and float)",
        "all(first(conv) or last(linear) is scheme(w8))",
        "bits(first(conv)) == 8",
        "bits(conv) >= 4",
        "bits(add) == 32",
        "min_bits(weight) == 4 and max_bits(weight) == 8",
        "max_bits(act) == 6",
        "avg_bits(weight) > 5.3 and avg_bits(weight) < 5.4",
        "size <= 5MB",
        "size > 4.7MiB",
        "macs == 500",
        "count(block(0..0) and scheme(w4)) == 2",
        "count(block(0..9)) == 6",
        "not exists(embedding) or size < 1kB",
    ],
)
def test_claim_holds(claim):
    assert judged(claim) is None


@pytest.mark.parametrize(
    ("claim", "found"),
    [
        ("count(conv) == 6", "`count(conv)` is 5"),
        ("exists(embedding)", "found none"),
        ("none(conv and scheme(w4))", "found 4"),
        ("all(conv is scheme(w4))", "1 of 5 are not"),
        ("all(embedding is scheme(w4))", "`embedding` selects nothing"),
        ("bits(conv) == 4", "`bits(conv)` is 8"),
        ("bits(conv) != 4", "`bits(conv)` is 4"),
        ("bits(embedding) == 4", "nothing to measure"),
        ("size < 5MB", "`size` is 5000000"),
        ("exists(conv) and macs > 1G", "`macs` is 500"),
        ("exists(embedding) or size < 1kB", "found none; `size` is 5000000"),
        ("not exists(conv)", "`exists(conv)` holds"),
        ("avg_bits(weight) <= 5", "is 5.333"),
    ],
)
def test_claim_that_fails_says_what_was_found(claim, found):
    assert found in judged(claim)


def test_expect_is_an_error_and_prefer_a_warning_with_reason_and_sites():
    recipe = recipe_of(f'{RECIPE}expect none(scheme(w8)), "why"\nprefer size < 1MB\n')
    resolution, _ = resolve(recipe, SITES)
    error, warning = check_assertions(recipe.assertions, SITES, resolution, MEASURED)
    assert (error.severity, warning.severity) == (Severity.ERROR, Severity.WARNING)
    assert error.notes == ("reason given: why", "conv1", "fc")
    assert error.primary.span.text == "none(scheme(w8))"


def test_pattern_in_an_expectation_has_to_match():
    recipe = recipe_of(f'{RECIPE}expect none("head" and quantized)\n')
    (diagnostic,) = resolve(recipe, SITES)[1]
    assert (diagnostic.code.number, diagnostic.primary.span.text) == ("QR301", '"head"')


def test_without_quantized_weights_there_are_no_bits_of_weights():
    recipe = recipe_of("expect min_bits(weight) >= 2")
    resolution, _ = resolve(recipe, SITES)
    text = evaluate_assertion(recipe.assertions[0], SITES, resolution, MEASURED)
    assert text == "`min_bits(weight)` has no value: nothing to measure"


FOURS = (
    "int4 by `use w4 for conv` (r.qrecipe:6): "
    "layer.0.conv1, layer.0.conv2, layer.1.conv1 and 1 more"
)
EIGHTS = "int8 by `use w8 for first(conv) or linear` (r.qrecipe:7): conv1, fc"


@pytest.mark.parametrize(
    ("claim", "named"),
    [
        ("avg_bits(weight) <= 5", (EIGHTS,)),
        ("5 >= avg_bits(weight)", (EIGHTS,)),
        ("min_bits(weight) >= 5", (FOURS,)),
        ("max_bits(act) <= 4", (FOURS.replace("int4", "int6"),)),
        ("min_bits(weight) > 8", (FOURS,)),
        ("max_bits(weight) < 4", (EIGHTS,)),
        ("avg_bits(weight) > 8 and count(conv) == 5", (FOURS,)),
        ("macs < 1", ("fc",)),
    ],
)
def test_sites_that_cause_a_figure_are_named_with_their_rules(claim, named):
    recipe = recipe_of(f"{RECIPE}expect {claim}\n")
    resolution, _ = resolve(recipe, SITES)
    (found,) = check_assertions(recipe.assertions, SITES, resolution, MEASURED)
    assert found.notes == named


def test_a_size_is_shown_in_parts_rule_by_rule_the_largest_first():
    w4 = RuleRef("r.qrecipe", 5, 3, "use w4 for conv")
    parts = (
        SizePart(w4, (("conv2", 30_000), ("conv1", 10_000))),
        SizePart(None, (("fc", 1_000_000),)),
        SizePart(RuleRef("r.qrecipe", 6, 3, "use w8 for linear"), (("a", 2), ("b", 1))),
        SizePart(RuleRef("r.qrecipe", 7, 3, "use w2 for add"), (("c", 1),)),
    )
    recipe = recipe_of(f"{RECIPE}expect size < 1MB\n")
    resolution, _ = resolve(recipe, SITES)
    measured = Measured(bytes_total=1_040_004, parts=parts)
    (found,) = check_assertions(recipe.assertions, SITES, resolution, measured)
    assert found.notes == (
        "1 MB in float: 1 tensor, `fc`",
        "40 kB by `use w4 for conv` (r.qrecipe:5): 2 tensors, the largest `conv2` 30 kB",
        "3 B by `use w8 for linear` (r.qrecipe:6): 2 tensors, the largest `a` 2 B",
    )

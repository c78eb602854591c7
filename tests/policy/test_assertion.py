import pytest

from qcompile.diagnostics.codes import Severity
from qcompile.policy.assertion import Measured, check_assertions, evaluate_assertion
from qcompile.policy.resolve import resolve
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

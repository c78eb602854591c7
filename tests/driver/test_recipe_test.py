from pathlib import Path

import pytest
from click.testing import CliRunner

from qcompile.cli.main import main
from qcompile.driver.recipe_test import find_tests, run_test
from tests.driver.project import RECIPE, make_project

RECIPES = Path(__file__).parents[2] / "recipes"
PARAMETRISED = RECIPE.replace(
    "scheme w4a8 {\n  weight int4", "param bits: int = 4\nscheme w4a8 {\n  weight int4 bits=bits"
)


@pytest.fixture
def outcome(tmp_path):
    make_project(tmp_path, PARAMETRISED)

    def run(body, header='qtest 1\nrecipe "net.qrecipe"\n'):
        path = tmp_path / "net.qtest"
        path.write_text(header + body)
        return run_test(path)

    return run


def codes(found):
    return [item.code.number for item in found.failures]


def lines(found):
    return [item.primary.span.location.line for item in found.failures]


@pytest.mark.parametrize("path", find_tests([RECIPES]), ids=lambda path: path.stem)
def test_packaged_recipe_passes_its_test(path):
    found = run_test(path)
    assert found.failures == ()
    assert found.passed == 5


def test_every_recipe_for_a_model_that_ships_with_us_has_a_test():
    recipes = {p.stem for p in RECIPES.glob("*.qrecipe") if 'model "zoo:' in p.read_text()}
    assert recipes == {path.stem for path in RECIPES.glob("*.qtest")}


def test_expectations_use_the_names_of_the_recipe(outcome):
    found = outcome(
        'select inner = inside("blocks")\n'
        "expect all(inner and conv is scheme(w4a8))\n"
        "expect count(quantized) == 5\n"
        "  and max_bits(weight) == 4\n"
    )
    assert (found.passed, found.failures) == (2, ())


def test_failed_expectation_is_shown_in_the_test(outcome):
    found = outcome("expect count(conv) == 5\nexpect count(conv) == 6\n")
    assert (found.passed, codes(found), lines(found)) == (1, ["QR603"], [4])
    assert found.failures[0].primary.span.text == "count(conv) == 6"
    assert found.failures[0].primary.span.source.name.endswith("net.qtest")


def test_parameters_are_given(outcome):
    assert outcome("param bits = 3\nexpect max_bits(weight) == 3\n").failures == ()
    assert codes(outcome("param bit = 3\nexpect max_bits(weight) == 3\n")) == ["QR201"]


def test_early_error_leaves_expectations_untested(outcome):
    found = outcome("param bits = 12\nexpect any_thing\n")
    assert found.passed == 0
    assert found.failures


def test_wanted_diagnostics_are_exact(outcome):
    assert outcome("param bits = 12\ndiagnostics QR403\n").failures == ()
    assert outcome("diagnostics none\n").passed == 1
    missing = outcome("diagnostics QR303\n")
    assert (missing.passed, codes(missing), lines(missing)) == (0, ["QR609"], [3])
    assert codes(outcome("param bits = 12\ndiagnostics none\n")) == ["QR403"]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("diagnostics\n", 3),
        ("diagnostics everything\n", 3),
        ("param bits\n", 3),
        ('recipe "again.qrecipe"\n', 3),
        ('param a = "x\n', 3),
        ("expect count(conv) == 5\nscheme s { weight int8 }\n", 4),
        ('import "x.qrecipe" as x\n', 3),
    ],
)
def test_line_that_is_no_test_is_refused(outcome, body, line):
    found = outcome(body)
    assert found.passed == 0
    assert "QR608" in codes(found)
    assert line in lines(found)


@pytest.mark.parametrize(
    "header", ["", "qtest 2\n", "qrecipe 1\n", "qtest 1\n", 'qtest 1\nrecipe "no.qrecipe"\n']
)
def test_header_that_is_wrong_is_refused(outcome, header):
    found = outcome("expect count(conv) == 5\n", header)
    assert found.passed == 0
    assert set(codes(found)) <= {"QR608", "QR114"}
    assert codes(found)


def test_syntax_error_has_its_own_code_and_place(outcome):
    found = outcome("\nexpect count(conv) = 5\n")
    assert (codes(found), lines(found)) == (["QR110"], [4])


def test_recipe_without_a_model_cannot_be_tested(tmp_path):
    (tmp_path / "lib.qrecipe").write_text("qrecipe 1\nscheme w8 { weight int8 }\n")
    path = tmp_path / "lib.qtest"
    path.write_text('qtest 1\nrecipe "lib.qrecipe"\nexpect none(conv)\n')
    found = run_test(path)
    assert (found.passed, codes(found)) == (0, ["QR608"])


def test_command_reports_each_file_and_fails_with_status_1(tmp_path):
    make_project(tmp_path)
    (tmp_path / "a.qtest").write_text('qtest 1\nrecipe "net.qrecipe"\nexpect exists(conv)\n')
    done = CliRunner().invoke(main, ["test", str(tmp_path)])
    assert done.exit_code == 0
    assert "1 passed, 0 failed" in done.output
    (tmp_path / "b.qtest").write_text('qtest 1\nrecipe "net.qrecipe"\nexpect none(conv)\n')
    done = CliRunner().invoke(main, ["test", str(tmp_path)])
    assert done.exit_code == 1
    assert "1 passed, 1 failed" in done.output
    assert "QR603" in done.output


def test_folder_without_tests_is_a_usage_error(tmp_path):
    assert CliRunner().invoke(main, ["test", str(tmp_path)]).exit_code == 2

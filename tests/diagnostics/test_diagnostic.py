from collections import Counter

import pytest

from qcompile.diagnostics.codes import Code, Severity
from qcompile.diagnostics.diagnostic import Diagnostic, Label, has_errors, in_order
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Location, Source
from qcompile.diagnostics.suggest import did_you_mean, nearest


def found(source: Source, start: int, code: Code = Code.UNKNOWN_NAME) -> Diagnostic:
    return Diagnostic(code, f"at {start}", Label(source.span(start, start + 1)))


def test_numbers_and_names_of_codes_are_unique_and_in_their_block() -> None:
    numbers, slugs = Counter(c.number for c in Code), Counter(c.slug for c in Code)
    assert max(numbers.values()) == max(slugs.values()) == 1
    assert all(c.number.startswith("QR") and c.number[2:].isdigit() for c in Code)
    assert all(c.number[2] in "12345679" and len(c.number) == 5 for c in Code)


def test_severity_is_that_of_the_code_unless_overridden() -> None:
    plain = Diagnostic(Code.NO_WEIGHT, "m")
    strict = Diagnostic(Code.NO_WEIGHT, "m", severity_override=Severity.ERROR)
    assert not has_errors([plain])
    assert has_errors([plain, strict])


def test_order_is_by_file_then_offset() -> None:
    one, two = Source("a", "x" * 9), Source("b", "x" * 9)
    items = [found(two, 1), found(one, 5), found(one, 2)]
    assert [d.message for d in in_order(items)] == ["at 2", "at 5", "at 1"]


def test_equal_code_at_an_equal_place_is_said_once() -> None:
    source = Source("a", "xxx")
    items = [found(source, 1), found(source, 1), found(source, 1, Code.WRONG_TYPE)]
    assert len(in_order(items)) == 2


def test_problems_without_a_place_are_kept_apart_by_subject_and_message() -> None:
    def item(message: str, subject: str) -> Diagnostic:
        return Diagnostic(Code.WEIGHT_NAMES, message, subject=subject)

    assert len(in_order([item("a", "x"), item("a", "y"), item("b", "x"), item("a", "x")])) == 3


def test_limit_is_for_each_file() -> None:
    one, two = Source("a", "x" * 99), Source("b", "x" * 99)
    items = [found(source, start) for source in (one, two) for start in range(50)]
    kept = in_order(items, 20)
    assert Counter(d.primary.span.source.name for d in kept if d.primary) == {"a": 20, "b": 20}


def test_compile_error_names_all_its_codes() -> None:
    error = CompileError([Diagnostic(Code.WEIGHT_FILE, "no file"), Diagnostic(Code.NO_SEED, "s")])
    assert str(error) == "QR522: no file; QR704: s"


@pytest.mark.parametrize(
    ("offset", "location", "line"),
    [(0, (1, 1), "ab"), (2, (1, 3), "ab"), (3, (1, 4), "ab"), (4, (2, 1), ""), (5, (3, 1), "c")],
)
def test_offset_has_its_line_and_column(offset: int, location: tuple[int, int], line: str) -> None:
    source = Source("a", "ab\r\n\nc")
    assert source.location(offset) == Location(*location)
    assert source.line(location[0]) == line
    assert source.line_start(location[0]) + location[1] - 1 == offset


def test_spans_join_to_the_smallest_that_covers_both() -> None:
    source = Source("a", "one two")
    joined = source.span(4, 7).to(source.span(0, 3))
    assert (joined.start, joined.end, joined.text, str(joined)) == (0, 7, "one two", "a:1:1")


def test_sources_are_equal_by_name_and_text() -> None:
    assert Source("a", "x") == Source("a", "x") != Source("b", "x")


def test_guess_is_the_most_alike_and_none_is_better_than_a_bad_one() -> None:
    assert did_you_mean("w4a8x", ["w8a8", "w4a8", "w4a4"]) == "did you mean `w4a8`?"
    assert did_you_mean("zzz", ["w8a8"]) is None
    assert did_you_mean("w4", []) is None


def test_guesses_that_differ_in_case_only_come_first() -> None:
    assert nearest("CONV", ["conv", "norm"]) == ["conv"]
    assert nearest("Convs", ["convs", "Conv"], 2) == ["convs", "Conv"]


def test_guesses_do_not_depend_on_the_order_of_the_names() -> None:
    names = ["w4a1", "w4a2", "w4a3"]
    assert nearest("w4a", names, 3) == nearest("w4a", reversed(names), 3)
    assert len(nearest("w4a", names, 2)) == 2


def test_a_warning_hides_no_error_of_its_code_and_place() -> None:
    at = Source("a", "0123456789").span(2, 3)
    warning = Diagnostic(Code.NO_KERNEL, "a", Label(at), severity_override=Severity.WARNING)
    error = Diagnostic(Code.NO_KERNEL, "b", Label(at))
    assert in_order([warning, error, warning]) == [warning, error]

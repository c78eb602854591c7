"""What the specs cannot say: fixes, bounds, files that are imported, phases."""

import pytest

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Source
from qcompile.syntax.suppressions import apply_suppressions, suppressions_in


def on(source: Source, text: str, code: Code = Code.UNREACHABLE_RULE) -> Diagnostic:
    start = source.text.index(text)
    return Diagnostic(code, "m", Label(source.span(start, start + len(text))))


def mended(source: Source, item: Diagnostic) -> str:
    (fix,) = item.fixes
    return source.text[: fix.span.start] + fix.replacement + source.text[fix.span.end :]


def test_suppression_has_codes_reason_and_line() -> None:
    source = Source("a", "use x  ## qcompile: ignore[QR303,QR303 QR515]: on purpose \n")
    ((one,), problems) = suppressions_in(source)
    assert (one.codes, one.line, one.reason) == (("QR303", "QR515"), 1, ": on purpose")
    assert problems == []


@pytest.mark.parametrize("text", ['a = "# qcompile: ignore[QR303] no"', "# qcompile is nice"])
def test_only_a_comment_with_the_mark_is_a_suppression(text: str) -> None:
    assert suppressions_in(Source("a", text)) == ([], [])


def test_silenced_findings_are_kept_for_the_next_phase() -> None:
    source = Source("a", "use x  # qcompile: ignore[QR303, QR515] both\n")
    early, late = on(source, "use"), on(source, "x", Code.NO_WEIGHT)
    first = apply_suppressions([early], source, with_model=False)
    assert (first.diagnostics, first.silenced) == ((), (early,))
    everything = [*first.diagnostics, *first.silenced, late]
    second = apply_suppressions(everything, source, with_model=True)
    assert (second.diagnostics, second.silenced) == ((), (early, late))


def test_reports_of_an_earlier_phase_are_made_anew() -> None:
    source = Source("a", "use x  # qcompile: ignore[QR206] late\n")
    first = apply_suppressions([], source, with_model=False)
    assert [item.code for item in first.diagnostics] == [Code.UNUSED_SUPPRESSION]
    again = [*first.diagnostics, on(source, "x", Code.UNUSED_NAME)]
    assert apply_suppressions(again, source, with_model=True).diagnostics == ()


def test_suppression_cannot_silence_reports_about_suppressions() -> None:
    source = Source("a", "use x  # qcompile: ignore[QR190] no\n")
    found = apply_suppressions([], source, with_model=True)
    assert [item.code for item in found.diagnostics] == [Code.UNUSED_SUPPRESSION]


def test_imported_file_silences_its_own_warnings_and_is_not_judged_here() -> None:
    main = Source("main", "use x\n")
    library = Source("library", "use y  # qcompile: ignore[QR303, QR515] mine\n")
    here, there = on(main, "use"), on(library, "use")
    found = apply_suppressions([here, there], main, with_model=True)
    assert (found.diagnostics, found.silenced) == ((here,), (there,))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("use x   # qcompile: ignore[QR515] r\n", "use x\n"),
        ("# qcompile: ignore[QR515] r\nuse x\n", "\nuse x\n"),
        (
            "use x # qcompile: ignore[QR515, QR303, QR999] r\n",
            "use x # qcompile: ignore[QR303] r\n",
        ),
    ],
)
def test_fix_takes_out_what_is_unused(text: str, left: str) -> None:
    source = Source("a", text)
    used = [on(source, "use")] if "QR303" in text else []
    (item,) = apply_suppressions(used, source, with_model=True).diagnostics
    assert mended(source, item) == left


def test_a_warning_about_the_machine_may_be_silenced_where_it_is_not_given() -> None:
    source = Source("r", "qrecipe 1  # qcompile: ignore[QR706] runs on the large machine\n")
    assert apply_suppressions([], source, with_model=True).diagnostics == ()


def test_unused_code_says_why() -> None:
    source = Source("a", "use x # qcompile: ignore[QR301, QR304x] r\n")
    (item,) = apply_suppressions([], source, with_model=True).diagnostics
    assert item.notes == (
        "`QR301` is an error; only warnings can be silenced",
        "there is no code `QR304x`; did you mean `QR304`?",
    )


def test_reports_are_bounded_whatever_the_text_holds() -> None:
    source = Source("a", "# qcompile: ignore[X1] r\n" * 20_000)
    assert len(apply_suppressions([], source, with_model=True).diagnostics) == 20
    codes = ", ".join(f"X{n}" for n in range(50_000))
    (item,) = apply_suppressions(
        [], Source("a", f"# qcompile: ignore[{codes}] r"), with_model=True
    ).diagnostics
    assert len(item.message) < 300
    assert len(item.notes) <= 20

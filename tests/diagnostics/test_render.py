import json
from pathlib import Path

import pytest

from qcompile.diagnostics.codes import Code, Severity
from qcompile.diagnostics.columns import columns, printable
from qcompile.diagnostics.diagnostic import Applicability, Diagnostic, Fix, Label
from qcompile.diagnostics.render import render_json, render_text, summary_line, to_json
from qcompile.diagnostics.source import Source


def at(source: Source, text: str, label: str = "") -> Label:
    start = source.text.index(text)
    return Label(source.span(start, start + len(text)), label)


def rendered(primary: Label, *secondary: Label, **rest: object) -> str:
    return render_text([Diagnostic(Code.UNKNOWN_NAME, "no such thing", primary, secondary, **rest)])  # pyright: ignore[reportArgumentType]


def marks_under(text: str, span: tuple[int, int]) -> tuple[str, str]:
    """The excerpt's line and its underline, without the gutter."""
    out = rendered(Label(Source("x", text).span(*span))).splitlines()
    return out[3].removeprefix("1 | "), out[4].removeprefix("  | ")


def test_one_line() -> None:
    source = Source("a.qrecipe", "qrecipe 1\nuse w4 for conv\n")
    out = rendered(at(source, "w4", "this scheme"), notes=("one", "two"), help="do that")
    assert out == (
        "error[QR201]: no such thing\n"
        " --> a.qrecipe:2:5\n"
        "  |\n"
        "2 | use w4 for conv\n"
        "  |     ^^ this scheme\n"
        "  = note: one\n"
        "  = note: two\n"
        "  = help: do that\n"
    )


def test_labels_on_many_lines_come_in_order_with_gaps_marked() -> None:
    source = Source("a", "\n".join(["one", "two", *["fill"] * 7, "ten", "eleven"]))
    out = rendered(at(source, "ten", "here"), at(source, "two", "first"), at(source, "eleven"))
    assert out == (
        "error[QR201]: no such thing\n"
        "  --> a:10:1\n"
        "   |\n"
        " 2 | two\n"
        "   | --- first\n"
        "...\n"
        "10 | ten\n"
        "   | ^^^ here\n"
        "11 | eleven\n"
        "   | ------\n"
    )


def test_two_labels_on_a_line_share_its_excerpt() -> None:
    source = Source("a", "use w4 for conv")
    out = rendered(at(source, "conv", "none"), at(source, "w4", "scheme")).splitlines()
    assert out[3:] == ["1 | use w4 for conv", "  |     -- scheme", "  |            ^^^^ none"]


def test_span_over_many_lines_is_marked_on_its_first() -> None:
    source = Source("a", "one {\n  two\n}\n")
    out = rendered(Label(source.span(4, 13), "block")).splitlines()
    assert out[3:] == ["1 | one {", "  |     ^ block"]


def test_secondary_label_in_another_file_is_a_note() -> None:
    here, there = Source("a", "use w4"), Source("b", "scheme w4")
    out = rendered(at(here, "w4"), at(there, "w4", "defined")).splitlines()
    assert out[-1] == "  = note: defined: b:1:8"


def test_tabs_count_four_columns() -> None:
    assert marks_under("\tuse\tw4", (5, 7)) == ("    use    w4", "           ^^")


def test_wide_characters_count_two_columns_and_accents_none() -> None:
    assert marks_under("言語 w4", (3, 5)) == ("言語 w4", "     ^^")
    assert marks_under("言語 w4", (0, 2)) == ("言語 w4", "^^^^")
    assert marks_under("e\u0301 w4", (3, 5)) == ("e\u0301 w4", "  ^^")


def test_end_of_file_is_shown_with_one_mark() -> None:
    assert marks_under("let a =", (7, 7)) == ("let a =", "       ^")
    source = Source("a", "let a\n")
    assert rendered(Label(source.span(6, 6), "end")).splitlines()[1:] == [
        " --> a:2:1",
        "  |",
        "2 |",
        "  | ^ end",
    ]
    assert "1 |\n" in rendered(Label(Source("a", "").span(0, 0)))


def test_carriage_returns_of_line_ends_are_not_printed() -> None:
    source = Source("a", "one\r\ntwo\r\n")
    out = rendered(Label(source.span(5, 9)))
    assert "\r" not in out
    assert out.splitlines()[3:] == ["2 | two", "  | ^^^"]


def test_no_line_ends_with_blanks() -> None:
    source = Source("a", "   \n")
    assert all(line == line.rstrip() for line in rendered(Label(source.span(0, 1))).splitlines())


def test_control_characters_do_not_reach_the_terminal() -> None:
    out = rendered(Label(Source("a", "x \x1b[31m \x07 y \x7f").span(2, 3), "\x1b]0;t\x07"))
    assert not any(ord(char) < 32 and char != "\n" for char in out)
    assert "\x7f" not in out
    assert "x \u241b[31m" in out


def test_direction_marks_do_not_reorder_the_excerpt() -> None:
    assert "\u202e" not in rendered(Label(Source("a", "a \u202e b").span(0, 1)))


def test_long_line_is_cut_around_the_mark() -> None:
    text = "x" * 5000 + "HERE" + "y" * 5000
    shown, marks = marks_under(text, (5000, 5004))
    assert len(shown) < 200
    assert shown[marks.index("^") :].startswith("HERE")
    assert marks.strip() == "^^^^"


def test_second_mark_beyond_a_cut_line_stays_at_its_edge() -> None:
    source = Source("a", "x" * 5000)
    out = rendered(Label(source.span(0, 4)), Label(source.span(4000, 4001), "far"))
    assert max(map(len, out.splitlines())) < 200


def test_subject_stands_in_for_a_place() -> None:
    found = Diagnostic(Code.WEIGHT_FILE, "no file", subject="m.safetensors", help="look")
    assert render_text([found]) == ("error[QR522]: no file\n --> m.safetensors\n  = help: look\n")


def test_diagnostics_are_one_blank_line_apart() -> None:
    found = Diagnostic(Code.WEIGHT_FILE, "no file")
    assert render_text([found, found]) == "error[QR522]: no file\n\nerror[QR522]: no file\n"
    assert render_text([]) == ""


def test_summary_counts_worst_first() -> None:
    error, warning = (
        Diagnostic(Code.NO_WEIGHT, "w", severity_override=Severity.ERROR),
        Diagnostic(Code.NO_WEIGHT, "w"),
    )
    info = Diagnostic(Code.NO_WEIGHT, "w", severity_override=Severity.INFO)
    assert summary_line([info, warning, error, warning]) == "1 error, 2 warnings, 1 info"
    assert summary_line([]) == ""


def test_json_says_all_that_the_text_says() -> None:
    source = Source("a", "one\nuse é for")
    found = Diagnostic(
        Code.UNKNOWN_NAME,
        "no `é`",
        at(source, "é", "here"),
        (at(source, "one"),),
        notes=("n",),
        help="h",
        fixes=(Fix(source.span(8, 9), "e", Applicability.UNSAFE),),
    )
    document = json.loads(render_json([found]))
    assert document["format_version"] == "1.0"
    assert document["diagnostics"] == [
        {
            "code": "QR201",
            "name": "unknown-name",
            "severity": "error",
            "message": "no `é`",
            "primary": {
                "file": "a",
                "start": 8,
                "end": 9,
                "line": 2,
                "column": 5,
                "label": "here",
            },
            "secondary": [
                {"file": "a", "start": 0, "end": 3, "line": 1, "column": 1, "label": None}
            ],
            "subject": None,
            "notes": ["n"],
            "help": "h",
            "fixes": [
                {
                    "file": "a",
                    "start": 8,
                    "end": 9,
                    "replacement": "e",
                    "applicability": "unsafe",
                }
            ],
        }
    ]


def test_json_without_a_place_has_nulls() -> None:
    (item,) = to_json([Diagnostic(Code.WEIGHT_FILE, "m", subject="f")])["diagnostics"]
    assert (item["primary"], item["subject"], item["help"]) == (None, "f", None)


@pytest.mark.parametrize(
    ("text", "shown", "width"),
    [
        ("abc", "abc", 3),
        ("a\tb", "a    b", 6),
        ("a\u3000b", "a  b", 4),
        ("a\u00a0b", "a b", 3),
        ("\ud800", "\ufffd", 1),
        ("\u2028", "\ufffd", 1),
        ("\u200d", "\u200d", 0),
        ("\u202e", "\ufffd", 1),
        ("\x00\x1f", "\u2400\u241f", 2),
        ("line\nend", "line\nend", 8),
    ],
)
def test_columns_count_what_printable_shows(text: str, shown: str, width: int) -> None:
    assert printable(text) == shown
    assert columns(text) == width


def test_golden_texts_are_printable_as_they_are() -> None:
    for path in (Path(__file__).parents[1] / "golden" / "broken").glob("*.expected"):
        text = path.read_text(encoding="utf-8")
        assert printable(text) == text

import re
from urllib.parse import unquote

import pytest

from qcompile.diagnostics.codes import Code, Severity
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.findings import Findings
from qcompile.diagnostics.github import render_github
from qcompile.diagnostics.source import Source

COMMAND = re.compile(r"::(?P<level>\w+) (?P<properties>[^:\n]*)::(?P<message>[^\n\r]*)\n")


def read_back(text: str) -> tuple[str, dict[str, str], str]:
    """As the runner reads it: ``%XX`` undone after the parts are taken apart."""
    match = COMMAND.fullmatch(text)
    assert match is not None, text
    parts = [part.split("=", 1) for part in match["properties"].split(",")]
    properties = {key: unquote(value) for key, value in parts}
    return match["level"], properties, unquote(match["message"])


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def one(item: Diagnostic, file: str = "a.qrecipe") -> tuple[str, dict[str, str], str]:
    return read_back(render_github([Findings(file, (item,))]))


def test_place_is_line_and_column_of_the_span() -> None:
    source = Source("recipes/a.qrecipe", "one\nuse w4 for conv\n")
    item = Diagnostic(Code.UNKNOWN_NAME, "no `w4`", Label(source.span(8, 10)), help="define it")
    assert one(item) == (
        "error",
        {
            "file": "recipes/a.qrecipe",
            "line": "2",
            "col": "5",
            "endColumn": "7",
            "title": "QR201 unknown-name",
        },
        "no `w4`\nhelp: define it",
    )


def test_span_over_lines_has_no_end_column() -> None:
    item = Diagnostic(Code.UNUSED_NAME, "m", Label(Source("a", "x {\n}").span(0, 5)))
    assert "endColumn" not in one(item)[1]


@pytest.mark.parametrize(
    ("severity", "level"),
    [(Severity.ERROR, "error"), (Severity.WARNING, "warning"), (Severity.INFO, "notice")],
)
def test_level_follows_the_severity(severity, level) -> None:
    assert one(Diagnostic(Code.NO_WEIGHT, "m", severity_override=severity))[0] == level


def test_what_would_end_or_split_a_command_is_escaped() -> None:
    source = Source("odd,na:me%.qrecipe", "x")
    text = "100%: a,b\r\n::error::fake %0A"
    _, properties, message = one(Diagnostic(Code.WRONG_TYPE, text, Label(source.span(0, 1))))
    assert properties["file"] == "odd,na:me%.qrecipe"
    assert message == "100%: a,b\u240d\n::error::fake %0A"


def test_without_a_span_the_checked_file_is_the_place() -> None:
    item = Diagnostic(Code.WEIGHT_FILE, "no file", subject="w.safetensors")
    _, properties, message = one(item, "b.qrecipe")
    assert properties == {"file": "b.qrecipe", "title": "QR522 weight-file"}
    assert message == "no file\nat w.safetensors"


def test_nothing_found_is_no_line() -> None:
    assert render_github([Findings("a", ())]) == ""

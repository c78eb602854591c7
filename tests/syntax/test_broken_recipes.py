"""The text of every message, byte for byte, and one example for every syntax code."""

from pathlib import Path

import pytest

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.render import render_text
from qcompile.diagnostics.source import Source
from qcompile.syntax.examples import EXAMPLES, Example
from qcompile.syntax.parse import MAX_ERRORS, parse
from qcompile.syntax.read import decode, read

BROKEN = sorted((Path(__file__).parents[1] / "golden" / "broken").glob("*.qrecipe"))


def diagnose(body: str) -> list[Diagnostic]:
    return parse(Source("x.qrecipe", f"qrecipe 1\n{body}"))[1]


def codes(body: str) -> list[str]:
    return [item.code.number for item in diagnose(body)]


def fixed(text: str) -> str:
    """``text`` with every fix of its diagnostics applied."""
    fixes = [fix for item in parse(Source("x", text))[1] for fix in item.fixes]
    for fix in sorted(fixes, key=lambda fix: -fix.span.start):
        text = text[: fix.span.start] + fix.replacement + text[fix.span.end :]
    return text


def test_all_twelve_broken_recipes_are_here() -> None:
    assert len(BROKEN) == 12


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_broken_recipe_gets_exactly_its_messages(path: Path) -> None:
    source = read(path, path.name)
    assert isinstance(source, Source)
    file, diagnostics = parse(source)
    assert file is None
    assert render_text(diagnostics) == path.with_suffix(".expected").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.code.number}-{len(e.content)}")
def test_example_gives_its_code_and_nothing_else(example: Example) -> None:
    source = decode(example.content, "x.qrecipe")
    diagnostics = parse(source)[1] if isinstance(source, Source) else source
    assert [item.code for item in diagnostics] == [example.code]


def test_every_syntax_code_has_an_example() -> None:
    of_other_texts = {  # those that parse, and those of another form
        Code.NOT_A_RECIPE_JSON,
        Code.HIDDEN_CHARACTER,
        Code.UNUSED_SUPPRESSION,
        Code.SUPPRESSION_WITHOUT_REASON,
    }
    syntax_codes = {code for code in Code if code.number.startswith("QR1")} - of_other_texts
    assert {example.code for example in EXAMPLES} == syntax_codes


@pytest.mark.parametrize(
    ("broken", "good"),
    [
        ("import 'lib.qrecipe' as lib", 'import "lib.qrecipe" as lib'),
        ("""let a = 'say "x" \\ y'""", r'let a = "say \"x\" \\ y"'),
        ("select a = conv&&linear", "select a = conv and linear"),
        ("select a = conv || linear", "select a = conv or linear"),
        ("select a = (!norm)", "select a = (not norm)"),
        ("expect bits(a) ≥ 4", "expect bits(a) >= 4"),
        ("expect bits(a) <> 4", "expect bits(a) != 4"),
        ("budget { size <= 60 MB }", "budget { size <= 60MB }"),
        ("require drop <= 1 % else a", "require drop <= 1% else a"),
        ("let a = 3 // three", "let a = 3 # three"),
        ("// three", "# three"),
        ("select a = layer1.*", 'select a = "layer1.*"'),
        ("select a = **.qkv or conv", 'select a = "**.qkv" or conv'),
        ("select a = conv or layer*", 'select a = conv or "layer*"'),
        ("select a = layer?.conv", 'select a = "layer?.conv"'),
        ("expect count(conv) = 12", "expect count(conv) == 12"),
        ("calibrate { samples: 1024 }", "calibrate { samples = 1024 }"),
        ("calibrate { samples:1024 }", "calibrate { samples = 1024 }"),
    ],
)
def test_safe_fix_mends_the_recipe(broken: str, good: str) -> None:
    assert fixed(f"qrecipe 1\n{broken}\n") == f"qrecipe 1\n{good}\n"
    assert codes(good) == []


def test_three_separate_errors_in_one_block_are_three_diagnostics() -> None:
    body = "policy main {\n  use a fro conv\n  skip norm\n  skip\n  use b for x y\n}\nlet a = 3\n"
    assert codes(body) == ["QR112", "QR101", "QR101"]


def test_error_inside_a_block_does_not_hide_the_end_of_the_block() -> None:
    assert codes("policy main { use w4 for }\nlet a = 1\n") == ["QR101"]
    assert "unexpected `}` in `for`" in diagnose("policy main { use w4 for }")[0].message


def test_error_on_a_continued_rule_skips_the_whole_rule() -> None:
    assert codes("policy main {\n  use a fro conv\n    or linear\n  skip norm\n}\n") == ["QR112"]


def test_error_inside_brackets_over_many_lines_is_one_error() -> None:
    body = "policy main {\n  skip (\n    conv conv\n    or linear\n  )\n  skip norm\n}\n"
    assert codes(body) == ["QR101"]


def test_error_in_the_head_of_a_block_skips_the_block() -> None:
    assert codes("scheme w4 extend base {\n  weight what is this\n}\nlet a = 1\n") == ["QR112"]


def test_parsing_goes_on_after_a_broken_version_line() -> None:
    text = "qrecipe one\nlet a = 1\nlet b 2\n"
    assert [item.code.number for item in parse(Source("x", text))[1]] == ["QR101", "QR101"]


def test_foreign_comments_everywhere_are_reported_and_nothing_else() -> None:
    text = (
        "// head\nqrecipe 1 // version\n// it's { a trap\npolicy main { // open\n"
        "  use a for conv // which\n    or linear\n  // between\n}\n"
    )
    found = parse(Source("x", text))[1]
    assert [item.code.number for item in found] == ["QR108"] * 6
    assert parse(Source("x", fixed(text)))[1] == []


def test_missing_brace_is_put_in_and_the_next_block_is_read() -> None:
    body = "scheme w4 {\n  weight int4\npolicy main {\n  use w4 fro conv\n}\n"
    assert codes(body) == ["QR105", "QR112"]


def test_stray_closing_brace_is_one_error() -> None:
    assert codes("let a = 1\n}\nlet b = 2\n") == ["QR101"]


def test_at_most_twenty_errors_are_reported() -> None:
    assert len(diagnose("lett a = 1\n" * 50)) == MAX_ERRORS


def test_diagnostics_come_in_the_order_of_the_text() -> None:
    body = "policy main {\n  skip (a or\n  use x for y\n  use a fro b\n}\nlett b = 1\n"
    starts = [item.primary.span.start for item in diagnose(body) if item.primary]
    assert len(starts) > 1
    assert starts == sorted(starts)


def test_foreign_words_in_other_case_are_recognised() -> None:
    assert diagnose("select a = conv OR linear")[0].help == "did you mean `or`?"


def test_two_settings_on_a_line_are_not_taken_for_a_unit() -> None:
    assert codes("tune brecq { steps = 20 batch = 3 }") == ["QR101"]


def test_operator_word_as_an_operand_is_not_called_a_name() -> None:
    assert codes("select a = and conv") == ["QR101"]


def test_slash_inside_a_string_is_no_comment() -> None:
    assert codes('model "hf://models" { a = "/* b */" }') == []


def test_long_token_is_shortened_in_the_message() -> None:
    message = diagnose(f"let a = b {'x' * 500}")[0].message
    assert len(message) < 80

import pytest

from qcompile.diagnostics.source import Source
from qcompile.syntax.hidden import hidden_characters


def messages(text: str) -> list[str]:
    return [item.message for item in hidden_characters(Source("a", text))]


@pytest.mark.parametrize(
    ("char", "message"),
    [
        ("\u202e", "the character `U+202E` (right-to-left override) reorders the text around it"),
        ("\u2066", "the character `U+2066` (left-to-right isolate) reorders the text around it"),
        ("\u061c", "the character `U+061C` (arabic letter mark) reorders the text around it"),
        ("\u200b", "the character `U+200B` (zero width space) is invisible"),
        ("\u200d", "the character `U+200D` (zero width joiner) is invisible"),
        ("\ufeff", "the character `U+FEFF` (zero width no-break space) is invisible"),
        ("\xad", "the character `U+00AD` (soft hyphen) is invisible"),
        ("\u2028", "the character `U+2028` (line separator) is invisible"),
        ("\u3164", "the character `U+3164` (hangul filler) is invisible"),
        ("\U000e0041", "the character `U+E0041` (tag latin capital letter a) is invisible"),
        ("\x1b", "the character `U+001B` is invisible"),
        ("\x7f", "the character `U+007F` is invisible"),
        ("\r", "the character `U+000D` is invisible"),
    ],
)
def test_hidden_character_is_named(char: str, message: str) -> None:
    (item,) = hidden_characters(Source("a", f"qrecipe 1\n# a{char}b\n"))
    assert item.message == message
    assert item.primary is not None
    assert (item.primary.span.start, item.primary.span.text) == (13, char)


def test_text_of_any_script_and_its_line_ends_are_visible() -> None:
    assert messages("a\tb\r\n# é e\u0301 言語 \u00a0 עברית العربية हिन्दी 한국어 🙂\r\n") == []


def test_each_line_is_reported_once() -> None:
    assert len(messages("\u200b\u202e a \u200b\n\u200b\nb\n")) == 2


def test_reports_of_one_text_are_bounded() -> None:
    assert len(messages("\u200b\n" * 1_000)) == 20

"""Words against the grammar: prefixes, reserved words, names of terminals."""

import pytest

from qcompile.diagnostics.source import Source
from qcompile.syntax.grammar import parser
from qcompile.syntax.parse import parse
from qcompile.syntax.words import (
    RULES,
    STATEMENTS,
    expected,
    keywords,
    starters,
    statement_words,
)

RESERVED = [
    "for",
    "use",
    "and",
    "or",
    "not",
    "except",
    "is",
    "in",
    "as",
    "with",
    "extends",
    "else",
    "final",
    "true",
    "false",
    "float",
    "weight",
    "act",
    "act2",
    "bias",
    "kv",
    "when",
    "each_of",
    "repeat",
    "function",
    "test",
]


def accepted_after(text: str) -> set[str]:
    state = parser().parse_interactive(text)
    state.exhaust_lexer()
    return state.accepts()


def codes(text: str) -> list[str]:
    return [item.code.number for item in parse(Source("x", text))[1]]


@pytest.mark.parametrize(
    "text",
    [
        "qrecipe1",
        "qrecipe 1\nletx = 3",
        'qrecipe 1\nimport "a" asb',
        'qrecipe 1\nmodelx "a"',
        "qrecipe 1\nparam a: int = 1 inx",
        "qrecipe 1\nscheme a extendsb { }",
        "qrecipe 1\nscheme a { weightint4 }",
        "qrecipe 1\nscheme a { weight withbits=8 }",
        "qrecipe 1\nscheme a { weight floatx = 3 { }",
        "qrecipe 1\npolicy a { usew4 for x }",
        "qrecipe 1\npolicy a { use w4 forx }",
        "qrecipe 1\npolicy a { finaluse w4 for x }",
        "qrecipe 1\npolicy a { skipx }",
        "qrecipe 1\npolicy a { withinx { } }",
        "qrecipe 1\nselect a = x andy",
        "qrecipe 1\nselect a = x ory",
        "qrecipe 1\nselect a = x isy",
        "qrecipe 1\nblocks { eachx }",
        "qrecipe 1\nexpectx",
        "qrecipe 1\nrequire x elsey",
    ],
)
def test_keyword_is_not_matched_as_a_prefix(text: str) -> None:
    assert codes(text)


def test_every_keyword_of_the_grammar_ends_at_a_word_boundary() -> None:
    literal = [t.name for t in parser().terminals if t.pattern.type == "str"]
    assert not [n for n in literal if parser().get_terminal(n).pattern.value[0].isalpha()]
    assert len(keywords()) > 40


@pytest.mark.parametrize("word", RESERVED)
def test_reserved_word_is_refused_as_a_name(word: str) -> None:
    assert codes(f"qrecipe 1\nlet {word} = 1\n") == ["QR113"]


@pytest.mark.parametrize(
    "word", sorted({w for ws in keywords().values() for w in ws} - set(RESERVED))
)
def test_statement_word_serves_as_the_name_of_a_setting(word: str) -> None:
    assert codes(f"qrecipe 1\noutput {{ {word} = 1 }}\nlet {word} = {word}\n") == []


@pytest.mark.parametrize("word", ["weight", "act", "act2", "bias", "kv"])
def test_slot_name_serves_as_the_name_of_a_setting_or_argument(word: str) -> None:
    assert codes(f"qrecipe 1\noutput {{ {word} = f({word}=1) }}\n") == []


def test_lists_of_statements_and_rules_agree_with_the_grammar() -> None:
    everywhere = {"_NL", "$END"}
    assert accepted_after("qrecipe 1\n") - everywhere == STATEMENTS
    assert accepted_after("qrecipe 1\npolicy a {") - {"RBRACE"} == RULES
    assert starters() > statement_words() >= {"model", "policy", "require", "prepare"}


def test_expected_lists_kinds_of_values_first_and_at_most_six() -> None:
    assert expected(frozenset({"FLOAT", "NAME", "_WITH"})) == "expected a name, `float`, `with`"
    assert expected(STATEMENTS).endswith(", ...")
    assert expected(frozenset({"PLUS", "NAME"})) == "expected a name"
    assert expected(frozenset({"PLUS"})) == "expected `+`"


def test_every_terminal_has_a_name_for_people() -> None:
    internal = {"COMMENT", "WS", "CONT"}
    for terminal in parser().terminals:
        if terminal.name not in internal:
            assert terminal.name not in expected(frozenset({terminal.name}))

"""What the parser's terminals are called when a person reads about them."""

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

from qcompile.syntax.grammar import parser

STATEMENTS = frozenset(
    {
        "_IMPORT",
        "_LET",
        "_PARAM",
        "_SELECT",
        "_MODEL",
        "_TARGET",
        "_SCHEME",
        "_POLICY",
        "_PREPARE",
        "_BLOCKS",
        "_BUDGET",
        "_CALIBRATE",
        "_TUNE",
        "_EVALUATE",
        "_OUTPUT",
        "ASSERTION",
        "REQUIRE",
    }
)
"""Terminals that begin a statement of the file."""

RULES = frozenset(
    {"_USE", "_SET", "_SKIP", "_SHARE", "_CHOOSE", "_INCLUDE", "_WITHIN", "FINAL", "OPTIONAL"}
)
"""Terminals that begin a rule of a policy."""

UNITS = frozenset(
    {"%", "b", "kb", "mb", "gb", "tb", "kib", "mib", "gib", "tib", "k", "m", "g"}
    | {"ms", "s", "sec", "min", "h", "d", "db"}
)
"""In lower case: words after a number that are a unit set apart by mistake."""

_HUMAN = {
    "BOOL": "true/false",
    "CMP": "a comparison",
    "COLON": "`:`",
    "COMMA": "`,`",
    "DOT": "`.`",
    "EQUAL": "`=`",
    "INT": "a whole number",
    "LBRACE": "`{`",
    "LPAR": "`(`",
    "LSQB": "`[`",
    "MINUS": "`-`",
    "MULOP": "`*`",
    "NAME": "a name",
    "NUMBER": "a number",
    "PLUS": "`+`",
    "QUANTITY": "a number with a unit",
    "RANGE": "`..`",
    "RBRACE": "`}`",
    "REGEX": 're"..."',
    "RPAR": "`)`",
    "RSQB": "`]`",
    "STRING": 'a "string"',
    "_NL": "end of line",
    "$END": "end of file",
}
_OPERATORS = frozenset(
    {"AND_EXCEPT", "CMP", "DOT", "IS", "LPAR", "LSQB", "MINUS", "MULOP", "OR", "PLUS", "RANGE"}
)
"""They could follow almost anything: listed only where nothing else could."""
_LISTED = 6


@cache
def keywords() -> Mapping[str, tuple[str, ...]]:
    r"""Words of each terminal that stands for words; the grammar writes them ``/(?:a|b)\b/``."""
    found: dict[str, tuple[str, ...]] = {}
    for terminal in parser().terminals:
        pattern = terminal.pattern.value
        if pattern.endswith(r"\b"):
            body = pattern.removesuffix(r"\b").removeprefix("(?:").removesuffix(")")
            found[terminal.name] = tuple(body.split("|"))
    return MappingProxyType(found)


@cache
def statement_words() -> frozenset[str]:
    return frozenset(words_of(STATEMENTS))


@cache
def starters() -> frozenset[str]:
    """Words that begin a statement or a rule."""
    return frozenset(words_of(STATEMENTS | RULES))


def words_of(terminals: Iterable[str]) -> list[str]:
    return [word for name in sorted(terminals) for word in keywords().get(name, ())]


def expected(terminals: frozenset[str]) -> str:
    """For example ``expected a name, `float`, `with` ``: kinds of values first, then words."""
    shown = (terminals - _OPERATORS) or terminals
    names = list(dict.fromkeys(_human(name) for name in sorted(shown, key=_rank)))
    more = ", ..." if len(names) > _LISTED else ""
    return f"expected {', '.join(names[:_LISTED])}{more}"


def _rank(terminal: str) -> tuple[bool, str]:
    return (terminal not in _HUMAN, terminal.strip("_"))


def _human(terminal: str) -> str:
    words = keywords().get(terminal, (terminal,))
    return _HUMAN.get(terminal) or "/".join(f"`{word}`" for word in words)

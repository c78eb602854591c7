"""The shortest broken text for each syntax code: no message can lose its test."""

from typing import NamedTuple

from qcompile.diagnostics.codes import Code
from qcompile.syntax.limits import (
    MAX_FILE_BYTES,
    MAX_NESTING,
    MAX_NUMBER,
    MAX_OPERATORS,
    MAX_REGEX,
    MAX_RULES,
    MAX_STRING,
)


class Example(NamedTuple):
    """Bytes of a file whose first diagnostic has ``code``."""

    code: Code
    content: bytes


def _recipe(code: Code, body: str) -> Example:
    return Example(code, f"qrecipe 1\n{body}\n".encode())


EXAMPLES = (
    Example(Code.MISSING_VERSION, b"scheme w8 { weight int8 }\n"),
    Example(Code.MISSING_VERSION, b""),
    _recipe(Code.UNEXPECTED_TOKEN, "scheme w4 { weight = int4 }"),
    _recipe(Code.UNEXPECTED_TOKEN, "let a = 60MB2"),
    _recipe(Code.UNEXPECTED_TOKEN, "let a = 3 @ 4"),
    _recipe(Code.UNEXPECTED_TOKEN, r'model "C:\models"'),
    _recipe(Code.SINGLE_QUOTES, "import 'lib.qrecipe' as lib"),
    _recipe(Code.UNTERMINATED_STRING, 'select late = "layer4.**'),
    _recipe(Code.FOREIGN_OPERATOR, "select both = conv && linear"),
    _recipe(Code.FOREIGN_OPERATOR, "expect count(conv) <> 12"),
    _recipe(Code.UNCLOSED_BRACKET, "scheme w4 {\n  weight int4\npolicy main { skip norm }"),
    _recipe(Code.UNCLOSED_BRACKET, "calibrate {\n  samples = 4\npolicy main { skip norm }"),
    _recipe(Code.UNCLOSED_BRACKET, "policy main {\n  skip (norm or add\n  skip conv\n}"),
    _recipe(Code.UNCLOSED_BRACKET, "policy main { skip norm"),
    Example(Code.EARLY_END, b"qrecipe 1\nlet a ="),
    _recipe(Code.SPACED_UNIT, "budget { size <= 60 MB }"),
    _recipe(Code.SPACED_UNIT, "require accuracy_drop <= 1 % else w8a8"),
    _recipe(Code.FOREIGN_COMMENT, "let a = 3 // three"),
    _recipe(Code.FOREIGN_COMMENT, "/* three */"),
    _recipe(Code.UNQUOTED_PATTERN, "select late = layer4.*"),
    _recipe(Code.UNQUOTED_PATTERN, "select late = layer*.conv1"),
    _recipe(Code.ASSIGNMENT_IN_EXPRESSION, "expect count(conv) = 12"),
    _recipe(Code.COLON_ASSIGNMENT, "calibrate { samples: 1024 }"),
    _recipe(Code.UNKNOWN_WORD, "improt 'x'"),
    _recipe(Code.RESERVED_WORD, "scheme weight { weight int4 }"),
    _recipe(Code.RESERVED_WORD, "let when = 3"),
    Example(Code.NOT_TEXT, b"qrecipe 1\nlet a = \xff\n"),
    Example(Code.NOT_TEXT, b"qrecipe 1\nlet a = \x00\n"),
    Example(Code.TOO_LARGE, b"#" * (MAX_FILE_BYTES + 1)),
    _recipe(Code.TOO_LARGE, f"let a = {'(' * (MAX_NESTING + 1)}"),
    _recipe(Code.TOO_LARGE, f"select a = {'not ' * (MAX_OPERATORS + 1)}conv"),
    _recipe(Code.TOO_LARGE, "policy main {" + "skip a;" * (MAX_RULES + 1) + "}"),
    _recipe(Code.TOO_LARGE, f'let a = "{"x" * (MAX_STRING + 1)}"'),
    _recipe(Code.TOO_LARGE, f'let a = re"{"x" * (MAX_REGEX + 1)}"'),
    _recipe(Code.TOO_LARGE, f"let a = {'9' * (MAX_NUMBER + 1)}"),
    _recipe(Code.TOO_LARGE, "let a = 1e999"),
)

"""Colours of a recipe for Pygments, and so for Sphinx, MkDocs and Rich.

Loaded by Pygments through its entry point, never by the compiler: it needs no parser, and colours
text that does not parse. ``grammars/qrecipe.tmLanguage.json`` says the same to editors.
"""

from collections.abc import Sequence
from typing import ClassVar

from pygments.lexer import RegexLexer, bygroups, words
from pygments.token import (
    Comment,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Text,
    Whitespace,
)

STATEMENTS = (
    *("qrecipe", "import", "let", "param", "select", "model", "target", "scheme", "policy"),
    *("prepare", "blocks", "budget", "calibrate", "tune", "evaluate", "output"),
    *("expect", "prefer", "require", "minimize", "maximize"),
)
RULES = (
    *("use", "set", "skip", "share", "choose", "include", "within", "final", "optional"),
    *("each", "group", "for", "with", "extends", "as", "in", "else"),
)
OPERATORS = ("and", "or", "not", "except", "is")
SLOTS = ("weight", "act", "act2", "bias", "kv", "float")
CONSTANTS = ("true", "false")
RESERVED = ("when", "each_of", "repeat", "function", "test")

FORMAT = (
    r"\b(?:u?int[2-8]|power[2-8]|log2_[2-8]|logsqrt2_4|nf4|codebook[2-8]"
    r"|fp8_e4m3|fp8_e5m2|fp6_e2m3|fp6_e3m2|mxfp[468]|nvfp4)\b"
)


class RecipeLexer(RegexLexer):
    name = "qrecipe"
    aliases: ClassVar[Sequence[str]] = ("qrecipe",)
    filenames: ClassVar[Sequence[str]] = ("*.qrecipe",)
    url = ""
    version_added = ""

    tokens: ClassVar = {
        "root": [
            (r"\s+", Whitespace),
            (r"##[^\n]*", Comment.Special),
            (r"#[^\n]*", Comment.Single),
            (r're"(?:\\.|[^"\\\n])*"?', String.Regex),
            (r'"', String.Double, "string"),
            # every word may name a setting
            (r"([A-Za-z_]\w*)(\s*)(=)(?!=)", bygroups(Name.Attribute, Whitespace, Operator)),
            (FORMAT, Keyword.Type),
            (words(STATEMENTS, r"\b", r"\b"), Keyword.Declaration),
            (words(RULES, r"\b", r"\b"), Keyword),
            (words(OPERATORS, r"\b", r"\b"), Operator.Word),
            (words(SLOTS, r"\b", r"\b"), Name.Builtin),
            (words(CONSTANTS, r"\b", r"\b"), Keyword.Constant),
            (words(RESERVED, r"\b", r"\b"), Keyword.Reserved),
            (r"[A-Za-z_]\w*(?=\()", Name.Function),
            (r"[A-Za-z_]\w*", Name),
            (r"[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?:%|[A-Za-z]+)?", Number),
            (r"==|!=|<=|>=|\.\.|[-+*/%<>=]", Operator),
            (r"[{}()\[\],;:.]", Punctuation),
            (r".", Text),
        ],
        "string": [
            (r'\\["\\nt]', String.Escape),
            (r'[^"\\\n]+', String.Double),
            (r'"', String.Double, "#pop"),
            (r"\n", Whitespace, "#pop"),
            (r"\\", String.Double),
        ],
    }

r"""Dots of a regular expression that stand where paths have dots: ``.`` was written for ``\.``."""

from collections.abc import Iterator, Sequence
from itertools import islice

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Applicability, Diagnostic, Fix, Label
from qcompile.policy.regex import Regex, parse_regex
from qcompile.policy.selection import Selection, leaves
from qcompile.policy.selector import Inside, OfParameter, Pattern, Selector, Subtree
from qcompile.policy.unmatched import names_for
from qcompile.syntax.limits import MAX_REGEX

ASKED = 64
"""So many of the selected sites show whether a dot is meant."""


def unescaped_dots(selector: Selector, selection: Selection) -> Iterator[Diagnostic]:
    r"""QR314, for each regular expression with a dot that may be escaped and still finds its names.

    A dot that stands for any character, as in ``layer.\.conv``, finds nothing when it is escaped.
    """
    for leaf in leaves(selector):
        if isinstance(leaf, Pattern | Inside | OfParameter | Subtree):
            pattern = leaf.matcher
            chosen = islice(sorted(selection.of(leaf)), ASKED)
            names = names_for(leaf, [selection.sites[index] for index in chosen])
            dots = _meant(pattern, sorted(names)) if isinstance(pattern, Regex) else []
            if dots:
                yield unescaped_dot(leaf, pattern.text, dots)


def _meant(pattern: Regex, names: Sequence[str]) -> list[int]:
    """Offsets of the dots that are dots in at least one of the names."""
    if len(pattern.text) == MAX_REGEX:
        return []
    literal = [(dot, parse_regex(_escaped(pattern.text, [dot]))) for dot in _bare(pattern.text)]
    return [dot for dot, one in literal if any(map(one.matches, names))]


def _bare(text: str) -> Iterator[int]:
    """Offsets of each ``.`` that reads exactly one character, whichever it is."""
    at, in_class = 0, False
    while at < len(text):
        match text[at]:
            case "\\":
                at += 1
            case "[":
                in_class = True
            case "]":
                in_class = False
            case "." if not in_class and text[at + 1 : at + 2] not in ("*", "+", "?"):
                yield at
            case _:
                pass
        at += 1


def _escaped(text: str, dots: Sequence[int]) -> str:
    r"""``text`` with a ``\`` before each of ``dots``."""
    ends = [*dots, len(text)]
    return "\\".join(text[start:end] for start, end in zip([0, *dots], ends, strict=True))


def unescaped_dot(
    leaf: Pattern | Inside | OfParameter | Subtree, text: str, dots: Sequence[int]
) -> Diagnostic:
    """QR314."""
    better = f're"{_escaped(text, dots)}"'
    fixes = (Fix(leaf.span, better, Applicability.UNSAFE),) if isinstance(leaf, Pattern) else ()
    return Diagnostic(
        Code.UNESCAPED_DOT,
        f"`.` in `{text}` stands for any character, and is a dot in the names that it finds",
        Label(leaf.span),
        help=f"write `{better}`, or a glob, in which a dot is a dot",
        fixes=fixes,
    )

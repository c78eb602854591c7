"""Where the parser could not go on, and what it knew there."""

from lark import Token
from lark.exceptions import UnexpectedInput, UnexpectedToken
from lark.parsers.lalr_interactive_parser import InteractiveParser

from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Source, Span
from qcompile.syntax.words import keywords, starters

END = "$END"
UNKNOWN = ""
"""The kind of a character that begins no token."""


@frozen
class Stop:
    """An unexpected token or character.

    ``kind`` is its terminal; ``accepts`` are the terminals that could stand there; ``context`` is
    the keyword of what was being written, and ``top`` the token right before, if it is still alone
    on the parser's stack (it is not yet part of a larger phrase).
    """

    source: Source
    start: int
    end: int
    kind: str
    accepts: frozenset[str]
    context: Token | None
    top: Token | None

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    @property
    def span(self) -> Span:
        return self.source.span(self.start, self.end)

    @property
    def at_start_of_file(self) -> bool:
        return "_QRECIPE" in self.accepts

    def starter(self) -> Span | None:
        """Find the word that begins a new statement here, although the one before is not complete.

        In a place where names are legal the lexer took it for a name, so it may lie on the stack.
        """
        for span in (self.span, _span(self.source, self.top)):
            if span is not None and span.text in starters() and _begins_line(span):
                return span
        return None


def stop_at(error: UnexpectedInput, parser: InteractiveParser, source: Source) -> Stop:
    kind, start, end = _place(error, source.text)
    values = parser.parser_state.value_stack
    tokens = [value for value in values if isinstance(value, Token)]
    words = [token for token in tokens if token.type in keywords() and token.type != "BOOL"]
    return Stop(
        source=source,
        start=start,
        end=end,
        kind=kind,
        accepts=frozenset(parser.accepts()),
        context=words[-1] if words else None,
        top=values[-1] if values and isinstance(values[-1], Token) else None,
    )


def _place(error: UnexpectedInput, text: str) -> tuple[str, int, int]:
    """Kind, start and end; a line end that the post-lexer added is what it stands before."""
    if not isinstance(error, UnexpectedToken):
        start = error.pos_in_stream or 0
        return UNKNOWN, start, start + 1
    token = error.token
    start = token.start_pos or 0
    if token.type == END:
        return END, len(text), len(text)
    if token.type == "_NL" and not token:
        return (
            ("RBRACE", start, start + 1) if text[start : start + 1] == "}" else (END, start, start)
        )
    if token.type == "_NL":
        return "_NL", start, start + 1
    return token.type, start, start + len(token)


def _span(source: Source, token: Token | None) -> Span | None:
    if token is None or token.start_pos is None:
        return None
    return source.span(token.start_pos, token.start_pos + len(token))


def _begins_line(span: Span) -> bool:
    source = span.source
    line_start = source.line_start(source.location(span.start).line)
    return not source.text[line_start : span.start].strip()

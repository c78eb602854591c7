"""How the parser goes on after an error, so that one run finds several.

Panic mode (Grune and Jacobs, *Parsing Techniques*, section 16.2): give up the statement at hand
and go on with the next one. Two repairs are better than that, because they lose nothing: a
missing ``}`` is put in before a top-level statement, and a foreign comment is a comment.
"""

from lark import Token
from lark.exceptions import UnexpectedToken
from lark.parsers.lalr_interactive_parser import InteractiveParser

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Source
from qcompile.syntax.marks import statement_end
from qcompile.syntax.stop import END, Stop
from qcompile.syntax.words import starters

_FATAL = frozenset({Code.MISSING_VERSION, Code.TOO_LARGE})
_HEADER = (Token("_QRECIPE", "qrecipe"), Token("INT", "1"), Token("_NL", ""))


class Recovery:
    """Moves one parser past its errors; every move brings it nearer to the end of the text."""

    def __init__(self, parser: InteractiveParser, source: Source) -> None:
        self._parser = parser
        self._source = source
        self._reached = -1

    def step(self, stop: Stop, diagnostic: Diagnostic) -> bool:
        """Make the parser ready to resume; False if nothing sensible can follow."""
        if stop.kind == END or diagnostic.code in _FATAL or diagnostic.primary is None:
            return False
        place = stop.start
        if diagnostic.code is Code.FOREIGN_COMMENT:
            if stop.start > diagnostic.primary.span.start:
                self._drop_top()  # the first half of the mark, read as a division
            place = self._line_end(stop.start)
            if self._resume_after_comment(place):
                return True
        elif diagnostic.code is Code.UNCLOSED_BRACKET and diagnostic.secondary:
            place = diagnostic.secondary[0].span.start
            if diagnostic.primary.span.text == "{" and self._close(stop, place):
                return True
        self._abandon_statement()
        self._move(self._next_place(stop, place))
        return True

    def _resume_after_comment(self, line_end: int) -> bool:
        """Go on as if the rest of the line were not there; not inside brackets."""
        if not self._between_statements():
            if "_NL" not in self._parser.accepts():
                return False
            if statement_end(self._source.text, line_end, starters()) == line_end:
                self._parser.feed_token(Token("_NL", ""))
        self._move(line_end)
        return True

    def _line_end(self, offset: int) -> int:
        line = self._source.location(offset).line
        return self._source.line_start(line) + len(self._source.line(line))

    def _close(self, stop: Stop, place: int) -> bool:
        """Put in the ``}`` that is missing before the statement at ``place``."""
        if place < stop.start:
            self._drop_top()  # the word of that statement, read as the name of a setting
        try:
            self._parser.feed_token(Token("RBRACE", "}"))
            self._parser.feed_token(Token("_NL", ""))
        except UnexpectedToken:
            return False
        self._move(place)
        return True

    def _abandon_statement(self) -> None:
        """Back to where a statement, a rule or a row of a block may begin."""
        state = self._parser.parser_state
        in_header = any(isinstance(v, Token) and v.type == "_QRECIPE" for v in state.value_stack)
        while not self._between_statements():
            self._drop_top()
        if in_header and not state.value_stack:
            for token in _HEADER:
                self._parser.feed_token(token)

    def _between_statements(self) -> bool:
        state = self._parser.parser_state
        actions = state.parse_conf.states[state.position]
        at_start = len(state.state_stack) == 1
        return at_start or not actions.keys().isdisjoint(("RBRACE", "_IMPORT"))

    def _next_place(self, stop: Stop, place: int) -> int:
        if self._reached < place < stop.start:
            target = place  # a new statement already began
        elif stop.kind == "RBRACE":
            state = self._parser.parser_state
            closes = "RBRACE" in state.parse_conf.states[state.position]
            target = stop.start if closes else stop.end
        else:
            target = statement_end(self._source.text, max(place, stop.start), starters())
        if target <= self._reached:
            target = min(self._reached + 1, len(self._source.text))
        self._reached = target
        return target

    def _drop_top(self) -> None:
        state = self._parser.parser_state
        state.state_stack.pop()
        state.value_stack.pop()

    def _move(self, offset: int) -> None:
        """Let the lexer go on at ``offset``, forwards or backwards."""
        state = self._parser.lexer_thread.state
        if state is None:
            return
        line, column = self._source.location(offset)
        counter = state.line_ctr
        counter.char_pos, counter.line, counter.column = offset, line, column
        counter.line_start_pos = self._source.line_start(line)
        state.last_token = None

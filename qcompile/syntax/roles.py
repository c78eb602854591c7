"""Which part a word plays on its line: what decides the blanks around it and where lines break."""

from collections.abc import Sequence
from enum import Enum, auto


class Role(Enum):
    """How a word stands to its neighbours."""

    WORD = auto()
    AND = auto()
    """``and`` or ``except``."""
    OR = auto()
    TIGHT = auto()
    """Touches both neighbours: ``.``, the ``=`` of an argument, ``..`` between numbers."""
    PREFIX = auto()
    """Touches what follows: the sign of a number."""
    SUFFIX = auto()
    """Touches what precedes: ``,`` and ``:``."""
    OPEN = auto()
    OPEN_CALL = auto()
    """The bracket of a call or an index, which touches what is called."""
    CLOSE = auto()
    OPEN_BLOCK = auto()
    OPEN_RECORD = auto()
    CLOSE_BRACE = auto()
    SEPARATOR = auto()
    """Ends a row, an entry of a record or an item in brackets; a layout writes its own."""
    END = auto()


_NUMBERS = frozenset({"INT", "NUMBER", "QUANTITY"})
_OPERAND_ENDS = _NUMBERS | {"NAME", "RPAR", "RSQB", "STRING", "REGEX", "BOOL", "SLOT", "FLOAT"}
_FIXED = {
    "DOT": Role.TIGHT,
    "COLON": Role.SUFFIX,
    "RPAR": Role.CLOSE,
    "RSQB": Role.CLOSE,
    "RBRACE": Role.CLOSE_BRACE,
    "AND_EXCEPT": Role.AND,
    "OR": Role.OR,
    "_NL": Role.SEPARATOR,
}
_BRACKETS = frozenset({Role.OPEN, Role.OPEN_CALL})
_BRACES = frozenset({Role.OPEN_BLOCK, Role.OPEN_RECORD})
_CLOSERS = frozenset({Role.CLOSE, Role.CLOSE_BRACE})


def roles(kinds: Sequence[str]) -> list[Role]:
    """Roles of all words of a recipe, from the terminals that the parser took them for."""
    place = _Place()
    found: list[Role] = []
    for before, kind, after in zip(("", *kinds), kinds, (*kinds[1:], ""), strict=False):
        role = _role(before, kind, after, place)
        place.enter(kind, role)
        found.append(role)
    return found


class _Place:
    """The brackets around a word, and the words before it in its row."""

    def __init__(self) -> None:
        self._around: list[Role] = []
        self._row: list[str] = []

    @property
    def in_brackets(self) -> bool:
        return bool(self._around) and self._around[-1] in _BRACKETS

    @property
    def in_record(self) -> bool:
        return bool(self._around) and self._around[-1] is Role.OPEN_RECORD

    @property
    def in_modifiers(self) -> bool:
        """In ``weight int4 observer=mse``, but not in the setting ``weight = 1``."""
        return len(self._row) > 1 and self._row[0] == "SLOT"

    def enter(self, kind: str, role: Role) -> None:
        if role in _BRACKETS or role in _BRACES:
            self._around.append(role)
        elif role in _CLOSERS:
            self._around.pop()
        if role in _BRACES or (role is Role.SEPARATOR and not self.in_brackets):
            self._row.clear()
        else:
            self._row.append(kind)


def _role(before: str, kind: str, after: str, place: _Place) -> Role:
    match kind:
        case "EQUAL":
            return Role.TIGHT if place.in_brackets or place.in_modifiers else Role.WORD
        case "RANGE":
            return Role.TIGHT if before in _NUMBERS and after in _NUMBERS else Role.WORD
        case "MINUS":
            return Role.WORD if before in _OPERAND_ENDS else Role.PREFIX
        case "COMMA":
            return Role.SEPARATOR if place.in_brackets or place.in_record else Role.SUFFIX
        case "LPAR":
            return Role.OPEN_CALL if before == "NAME" else Role.OPEN
        case "LSQB":
            return Role.OPEN_CALL if before in _OPERAND_ENDS else Role.OPEN
        case "LBRACE":
            return Role.OPEN_RECORD if before == "EQUAL" else Role.OPEN_BLOCK
        case _:
            return _FIXED.get(kind, Role.WORD)

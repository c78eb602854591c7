"""Trees of recipes, and texts of one recipe with other blanks and with comments put in."""

from functools import partial
from random import Random

from hypothesis import strategies as st

from qcompile.diagnostics.source import Source
from qcompile.syntax import nodes
from qcompile.syntax.expression_text import OPERATORS
from qcompile.syntax.grammar import parser
from qcompile.syntax.words import keywords

NOWHERE = Source("", "").span(0, 0)
WORDS = frozenset(word for words in keywords().values() for word in words)
SLOTS = st.sampled_from(["weight", "act", "act2", "bias", "kv"])


def node(kind, *args, **fields):
    return st.builds(partial(kind, span=NOWHERE), *args, **fields)


def tuples_of(items, **sizes):
    return st.lists(items, **sizes).map(tuple)


identifiers = st.text("abxyz_019", min_size=1, max_size=5).filter(
    lambda text: not text[0].isdigit() and text not in WORDS
)
names = node(nodes.Name, identifiers)
setting_names = st.one_of(names, node(nodes.Name, SLOTS))
refs = node(
    nodes.Ref, tuples_of(identifiers | st.sampled_from(["scheme", "model"]), min_size=1, max_size=3)
)
texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from('#"\\\n\t'),
    max_size=8,
)
strings = node(nodes.String, texts)
patterns = st.lists(st.sampled_from([r"\.", r"\"", r"\\", "a", "(b|c)", "^", "#", "*"])).map(
    "".join
)
whole = st.integers(0, 10**12)
numbers = node(nodes.Number, whole | st.floats(0, 1e300))
quantities = node(
    nodes.Quantity,
    whole | st.floats(1e-9, 1e12),
    st.sampled_from(["%", "MB", "k", "e", "dB", "min"]),
)
leaves = st.one_of(
    numbers,
    quantities,
    strings,
    node(nodes.Regex, patterns),
    node(nodes.Bool, st.booleans()),
    refs,
    node(nodes.SlotRef, SLOTS),
    node(nodes.FloatWord),
)


def _composed(inner):
    args = tuples_of(node(nodes.Arg, st.none() | setting_names, inner), max_size=3)
    return st.one_of(
        node(nodes.Binary, st.sampled_from(sorted(OPERATORS)), inner, inner),
        node(nodes.Unary, st.sampled_from(["not", "-"]), inner),
        node(nodes.Call, refs, args),
        node(nodes.Index, inner, args),
        node(nodes.ListExpr, tuples_of(inner, max_size=3)),
    )


expressions = st.recursive(leaves, _composed, max_leaves=8)
arguments = tuples_of(node(nodes.Arg, st.none() | setting_names, expressions), max_size=2)
values = st.recursive(
    expressions,
    lambda inner: node(nodes.Record, tuples_of(node(nodes.Attr, setting_names, inner), max_size=3)),
    max_leaves=3,
)
attrs = tuples_of(node(nodes.Attr, setting_names, values), max_size=3)
modifiers = st.one_of(
    node(nodes.Modifier, names, st.none(), st.none()),
    node(nodes.Modifier, names, arguments, st.none()),
    node(nodes.Modifier, names, st.none(), expressions),
)
slot_names = node(nodes.Name, SLOTS)
slots = st.one_of(
    node(
        nodes.SlotSet,
        slot_names,
        tuples_of(names, min_size=1, max_size=2),
        tuples_of(modifiers, max_size=3),
    ),
    node(nodes.SlotPatch, slot_names, tuples_of(modifiers, min_size=1, max_size=2)),
    node(nodes.SlotFloat, slot_names),
)
flags = {"final": st.booleans(), "optional": st.booleans()}
plain_rules = st.one_of(
    node(nodes.Use, refs, expressions, **flags),
    node(nodes.SetField, st.none() | slot_names, names, expressions, expressions, **flags),
    node(nodes.Skip, expressions, **flags),
    node(nodes.Share, names, expressions),
    node(nodes.Choose, tuples_of(refs, min_size=1, max_size=3), expressions),
    node(nodes.Include, refs),
)
rules = st.recursive(
    plain_rules,
    lambda inner: node(nodes.Within, expressions, tuples_of(inner, max_size=3)),
    max_leaves=3,
)
block_rows = st.one_of(
    node(nodes.BlockEach, expressions),
    node(nodes.BlockGroup, names, expressions),
    node(nodes.Attr, names, values),
)
budget_rows = st.one_of(
    node(nodes.Limit, expressions),
    node(nodes.Objective, node(nodes.Name, st.sampled_from(["minimize", "maximize"])), expressions),
)
reasons = st.none() | strings
statements = st.one_of(
    node(nodes.Import, strings, st.none() | names, attrs),
    node(nodes.Let, names, expressions),
    node(
        nodes.Param,
        names,
        names | node(nodes.Name, st.just("float")),
        st.none() | expressions,
        st.none() | expressions,
    ),
    node(nodes.Select, names, expressions),
    node(nodes.ModelBlock, strings, attrs),
    node(nodes.TargetBlock, strings, attrs),
    node(nodes.SchemeDef, names, st.none() | refs, tuples_of(slots, max_size=3)),
    node(nodes.PolicyDef, names, st.none() | refs, tuples_of(rules, max_size=3)),
    node(nodes.Prepare, names, st.none() | expressions, attrs),
    node(nodes.BlocksBlock, tuples_of(block_rows, max_size=3)),
    node(nodes.BudgetBlock, tuples_of(budget_rows, max_size=3)),
    node(nodes.CalibrateBlock, st.none() | names, attrs),
    node(
        nodes.EvaluateBlock, names | node(nodes.Name, texts | st.sampled_from(sorted(WORDS))), attrs
    ),
    node(nodes.TuneBlock, names, st.none() | expressions, attrs),
    node(nodes.OutputBlock, attrs),
    node(
        nodes.Assertion,
        node(nodes.Name, st.sampled_from(["expect", "prefer"])),
        expressions,
        reasons,
        st.none(),
    ),
    node(
        nodes.Assertion,
        node(nodes.Name, st.just("require")),
        expressions,
        reasons,
        st.none() | refs,
    ),
)
recipes = node(
    nodes.RecipeFile,
    node(nodes.Number, st.integers(0, 99)),
    tuples_of(statements, max_size=4),
)


def scrambled(text: str, random: Random) -> tuple[str, list[str]]:
    """``text`` with other blanks and line ends, and the comments that were put into it."""
    return _Scrambler(random).scrambled(text)


class _Scrambler:
    """Puts a comment wherever the language lets a line end stand."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._comments: list[str] = []
        self._brackets = 0

    def scrambled(self, text: str) -> tuple[str, list[str]]:
        pieces = [self._lines()]
        for token in parser().parse_interactive(text).exhaust_lexer():
            if token.type == "_NL":
                pieces.append(self._row_end())
                continue
            if self._brackets or token.type in ("OR", "AND_EXCEPT"):
                pieces.append(self._maybe_break())
            self._brackets += (token.type in ("LPAR", "LSQB")) - (token.type in ("RPAR", "RSQB"))
            pieces.append(f"{self._random.choice([' ', '  ', chr(9)])}{token}")
            if token.type == "LBRACE":
                pieces.append(self._maybe_break())
        return "".join(pieces), self._comments

    def _maybe_break(self) -> str:
        return self._comment() + "\n" + self._lines() if self._random.random() < 0.2 else " "

    def _row_end(self) -> str:
        if self._random.random() < 0.2:
            return ";"
        comment = self._comment() if self._random.random() < 0.4 else ""
        return f"{comment}\n{self._lines()}"

    def _lines(self) -> str:
        lines = (
            self._random.choice(["", "", self._comment])
            for _ in range(self._random.choice([0, 0, 3]))
        )
        return "".join(f"{line() if callable(line) else line}\n" for line in lines)

    def _comment(self) -> str:
        mark = self._random.choice(["# ", "#", "## "])
        self._comments.append(f'{mark}{len(self._comments)} " and {{ ( or')
        return f" {self._comments[-1]}"

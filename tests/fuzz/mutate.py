"""New texts from known ones: by tokens, by lines, by characters, and from the grammar itself."""

import re
from collections.abc import Callable
from functools import cache
from random import Random

from lark.grammar import NonTerminal, Rule

from qcompile.syntax.grammar import parser
from qcompile.syntax.words import keywords

_TOKEN = re.compile(r'\s+|"(?:\\.|[^"\\\n])*"?|#[^\n]*|\w+|\.\.|[=!<>]=|.', re.DOTALL)
_SCRAPS = (
    *("{", "}", "(", ")", "[", "]", '"', "'", "#", "//", "\n", ";", "=", "*", "\\", ",", "..", "."),
    *("\r", "\r\n", "\x00", "\x1b[31m", "\u2028", "\u202e", "\ufeff", "é", "\U0001f600", "\ud800"),
    *("&&", "||", "!", ":", "60 MB", "60MB", "1e999", "0", "-1", "99.9%", "1_0", "int4", "uint8"),
    *('re"(a+)+"', '"**"', '"{a,b}"', '"[0-9]"', "# qcompile: ignore[QR206] x", "conv", "linear"),
    *("w4", "w8", "not ", " and ", " except ", "first(", "block(1..2)", "count(conv)", "size"),
)
_NAMES = ("w4", "w8", "main", "conv", "linear", "any", "mse", "bits", "first", "per_group", "depth")
_MAX_TEXT = 6_000
_MAX_DEPTH = 12


def mutated(text: str, corpus: list[str], random: Random) -> str:
    for _ in range(random.choice((1, 1, 2, 3, 6))):
        text = random.choice(_MUTATIONS)(text, corpus, random)
    return text[:_MAX_TEXT]


def _insert(text: str, corpus: list[str], random: Random) -> str:
    at = random.randint(0, len(text))
    return text[:at] + random.choice(_SCRAPS) + text[at:]


def _delete(text: str, corpus: list[str], random: Random) -> str:
    at = random.randint(0, len(text))
    return text[:at] + text[at + random.randint(1, 12) :]


def _swap_tokens(text: str, corpus: list[str], random: Random) -> str:
    mine, other = _TOKEN.findall(text), _TOKEN.findall(random.choice(corpus))
    if mine and other:
        mine[random.randrange(len(mine))] = random.choice(other)
    return "".join(mine)


def _drop_token(text: str, corpus: list[str], random: Random) -> str:
    tokens = _TOKEN.findall(text)
    if tokens:
        del tokens[random.randrange(len(tokens))]
    return "".join(tokens)


def _splice_lines(text: str, corpus: list[str], random: Random) -> str:
    mine, other = text.split("\n"), random.choice(corpus).split("\n")
    at, start = random.randint(0, len(mine)), random.randrange(len(other))
    return "\n".join([*mine[:at], *other[start : start + random.randint(1, 4)], *mine[at:]])


def _drop_line(text: str, corpus: list[str], random: Random) -> str:
    lines = text.split("\n")
    del lines[random.randrange(len(lines))]
    return "\n".join(lines)


def _repeat(text: str, corpus: list[str], random: Random) -> str:
    at = random.randint(0, len(text))
    piece = text[at : at + random.randint(1, 20)]
    return text[:at] + piece * random.randint(2, 40) + text[at:]


def _derive(text: str, corpus: list[str], random: Random) -> str:
    """Put in a statement, a rule or an expression that the grammar allows."""
    origin = random.choice(("_item", "_rule", "expr", "_slot", "attr", "_arg", "_budget_row"))
    line = random.choice(("\n", " ", "\n  "))
    at = random.choice([0, len(text), *(m.end() for m in re.finditer(r"[\n{(]", text))])
    return text[:at] + derived(origin, random) + line + text[at:]


_MUTATIONS: tuple[Callable[[str, list[str], Random], str], ...] = (
    *(_insert, _delete, _swap_tokens, _swap_tokens, _drop_token),
    *(_splice_lines, _drop_line, _repeat, _derive, _derive),
)


def derived(origin: str, random: Random, depth: int = 0) -> str:
    """A random text of a rule of the grammar; deep inside, the shortest expansions only."""
    choices = _expansions()[origin]
    if depth > _MAX_DEPTH:
        choices = sorted(choices, key=_weight)[:1]
    return " ".join(
        derived(symbol.name, random, depth + 1)
        if isinstance(symbol, NonTerminal)
        else _terminal(symbol.name, random)
        for symbol in random.choice(choices).expansion
    )


@cache
def _expansions() -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for rule in parser().rules:
        found.setdefault(rule.origin.name, []).append(rule)
    return found


@cache
def _costs() -> dict[str, int]:
    """How many steps the shortest derivation of each rule takes."""
    costs: dict[str, int] = {}
    while len(costs) < len(_expansions()):
        for origin, rules in _expansions().items():
            known = [
                1 + sum(costs[s.name] for s in rule.expansion if isinstance(s, NonTerminal))
                for rule in rules
                if all(s.name in costs for s in rule.expansion if isinstance(s, NonTerminal))
            ]
            if known:
                costs[origin] = min(known)
    return costs


def _weight(rule: Rule) -> int:
    return sum(_costs()[s.name] for s in rule.expansion if isinstance(s, NonTerminal))


def _terminal(name: str, random: Random) -> str:
    if name in keywords():
        return random.choice(keywords()[name])
    pattern = parser().get_terminal(name).pattern
    if pattern.type == "str":
        return str(pattern.value)
    return random.choice(_SAMPLES[name])


_SAMPLES = {
    "NAME": _NAMES,
    "INT": ("0", "1", "4", "8", "64", "100_000"),
    "NUMBER": ("0.5", "1e-3", "2.4", "99.99"),
    "QUANTITY": ("60MB", "1M", "50%", "2h", "20dB", "3xyz"),
    "STRING": ('"**"', '"layer1.*"', '"zoo:resnet20"', '"a{b,c}"', '"[!x]?"', r'"\""', '""'),
    "REGEX": ('re"a.*"', 're"(a|b)+c?"', 're"(a+)+"', 're"["', 're""'),
    "CMP": ("==", "!=", "<=", ">=", "<", ">"),
    "MULOP": ("*", "/", "%"),
    "_NL": ("\n", ";", "\n# c\n"),
}

"""The names of one recipe: one namespace for ``let``, ``select``, ``scheme`` and ``policy``."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Literal, TypeAlias

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Fix, Label
from qcompile.diagnostics.source import Span
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.policy.selection import FACTS
from qcompile.policy.site import Kind
from qcompile.syntax.nodes import (
    Import,
    Let,
    Name,
    Param,
    PolicyDef,
    Ref,
    SchemeDef,
    Select,
    Statement,
)

Word: TypeAlias = Literal["let", "select", "scheme", "policy"]

SELECTOR_WORDS = (*(kind.value for kind in Kind), "any", "depthwise", "shared", "quantized")
NUMBER_WORDS = (*(name for name, _ in FACTS), "size")
MAX_CYCLES = 20
"""More are not looked for: a person mends one and asks again."""

RESERVED = frozenset((*SELECTOR_WORDS, *NUMBER_WORDS))


@dataclass(frozen=True, slots=True)
class Definition:
    word: Word
    name: Name
    node: Let | Select | SchemeDef | PolicyDef


class Scope:
    """Definitions by name, and which of them something has referred to."""

    def __init__(self, definitions: Iterable[Definition], elsewhere: Iterable[str] = ()) -> None:
        self.definitions = {item.name.text: item for item in definitions}
        self.elsewhere = frozenset(elsewhere)
        self._used: set[str] = set()

    def names(self, *words: Word) -> list[str]:
        return [name for name, item in self.definitions.items() if item.word in words]

    def look_up(self, ref: Ref, *words: Word) -> Definition | None:
        """The definition of one of ``words`` that ``ref`` names; looking marks it as used."""
        definition = self.definitions.get(ref.text)
        if definition is not None:
            self._used.add(ref.text)
        return definition if definition is not None and definition.word in words else None

    def is_elsewhere(self, ref: Ref) -> bool:
        """Whether ``ref`` leads to an import or a parameter, which is reported where it stands."""
        return ref.parts[0] in self.elsewhere

    def unused(self) -> list[Definition]:
        """Policies are entry points and never unused."""
        return [
            item
            for name, item in self.definitions.items()
            if name not in self._used and item.word != "policy"
        ]


def collect(statements: Sequence[Statement]) -> tuple[Scope, list[Diagnostic]]:
    """The first definition of a name counts."""
    found: dict[str, Definition] = {}
    diagnostics: list[Diagnostic] = []
    for definition in _definitions(statements):
        name = definition.name
        if name.text in RESERVED:
            diagnostics.append(word_of_the_language(name))
        elif name.text in found:
            diagnostics.append(defined_twice(name, found[name.text].name))
        else:
            found[name.text] = definition
    return Scope(found.values(), _elsewhere(statements)), diagnostics


def _elsewhere(statements: Sequence[Statement]) -> Iterable[str]:
    for node in statements:
        match node:
            case Import(_, Name(alias)):
                yield alias
            case Param(Name(name)):
                yield name
            case _:
                pass


def _definitions(statements: Sequence[Statement]) -> Iterable[Definition]:
    for node in statements:
        match node:
            case Let():
                yield Definition("let", node.name, node)
            case Select():
                yield Definition("select", node.name, node)
            case SchemeDef():
                yield Definition("scheme", node.name, node)
            case PolicyDef():
                yield Definition("policy", node.name, node)
            case _:
                pass


def unknown_name(ref: Ref, what: str, scope: Scope, known: Iterable[str]) -> Diagnostic:
    """QR201."""
    guess = did_you_mean(ref.text, known)
    other = scope.definitions.get(ref.text)
    label = f"this name is a `{other.word}`" if other else "defined nowhere in this recipe"
    return Diagnostic(
        Code.UNKNOWN_NAME,
        f"unknown {what} `{ref.text}`",
        Label(ref.span, label),
        help=guess or f"define it, or use one of: {_listing(known)}",
    )


def defined_twice(second: Name, first: Name) -> Diagnostic:
    """QR202."""
    return Diagnostic(
        Code.DUPLICATE_NAME,
        f"`{second.text}` is defined twice",
        Label(second.span, "second definition"),
        (Label(first.span, "first definition"),),
        help="rename or delete one; `let`, `select`, `scheme` and `policy` share one namespace",
    )


def word_of_the_language(name: Name) -> Diagnostic:
    """QR202."""
    return Diagnostic(
        Code.DUPLICATE_NAME,
        f"`{name.text}` already means something in selectors",
        Label(name.span, "a word of the language"),
        help=f"choose another name, for example `my_{name.text}`",
    )


def in_dependency_order(
    graph: Mapping[str, Collection[str]],
) -> tuple[list[str], list[list[str]]]:
    """Every name after those that it needs, and the cycles, such as ``[a, b, a]``.

    The names of a cycle are left out of the order; those that need them are not.
    """
    left = dict(graph)
    cycles: list[list[str]] = []
    while len(cycles) < MAX_CYCLES:
        sorter = TopologicalSorter(left)
        try:
            return [name for name in sorter.static_order() if name in left], cycles
        except CycleError as error:
            found: list[str] = error.args[1]
            cycles.append(_from_first(found[:0:-1], left))
            left = {name: needs for name, needs in left.items() if name not in found}
    return [], cycles


def _from_first(cycle: list[str], order: Collection[str]) -> list[str]:
    """``[a, b, a]`` for the cycle of ``b`` and ``a``, where ``a`` comes first in ``order``."""
    start = cycle.index(next(name for name in order if name in cycle))
    return [*cycle[start:], *cycle[:start], cycle[start]]


def forms_a_cycle(what: str, names: Sequence[str], span: Span) -> Diagnostic:
    """QR203. ``names`` begins and ends with the same name."""
    return Diagnostic(
        Code.CYCLIC_DEFINITION,
        f"{what} forms a cycle: {' -> '.join(f'`{name}`' for name in names)}",
        Label(span, "closes the cycle"),
        help="let one of them stand on its own",
    )


def unused_name(definition: Definition) -> Diagnostic:
    """QR206."""
    return Diagnostic(
        Code.UNUSED_NAME,
        f"unused {definition.word} `{definition.name.text}`",
        Label(definition.name.span, "nothing refers to it"),
        help="delete it",
        fixes=(Fix(definition.node.span, ""),),
    )


def _listing(names: Iterable[str], limit: int = 8) -> str:
    shown = sorted(set(names))
    if not shown:
        return "(nothing of that sort is defined)"
    rest = f", ... ({len(shown)} in all)" if len(shown) > limit else ""
    return ", ".join(f"`{name}`" for name in shown[:limit]) + rest

"""The names of a recipe and its imports: one namespace a file for all that can be defined."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Literal, TypeAlias

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Fix, Label
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Span
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.policy.claim import FIGURE_WORDS
from qcompile.policy.closure import Namespace
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
)

Word: TypeAlias = Literal["let", "param", "select", "scheme", "policy", "import"]

SELECTOR_WORDS = (*(kind.value for kind in Kind), "any", "depthwise", "shared", "quantized")
NUMBER_WORDS = (*(name for name, _ in FACTS), *(word for word in FIGURE_WORDS if word != "macs"))
MAX_CYCLES = 20
"""More are not looked for: a person mends one and asks again."""

RESERVED = frozenset((*SELECTOR_WORDS, *NUMBER_WORDS))


@frozen
class Definition:
    """``key`` is unique in the closure: the name, after the prefix of its file."""

    word: Word
    key: str
    name: Name
    node: Let | Param | Select | SchemeDef | PolicyDef | Import

    @property
    def prefix(self) -> str:
        return self.key.removesuffix(self.name.text)


class Scope:
    """The definitions of all files, and which of them something has referred to.

    A reference means what it means in the file in whose text it stands.
    """

    def __init__(
        self, namespaces: Sequence[Namespace], definitions: Mapping[str, Definition]
    ) -> None:
        self.definitions = definitions
        self._prefixes = {one.source.name: one.prefix for one in namespaces}
        self._targets = {
            one.prefix + item.alias.text: item.target and self._prefixes[item.target]
            for one in namespaces
            for item in reversed(one.imports)
        }
        self._used: set[str] = set()

    def keys(self, *words: Word) -> list[str]:
        return [key for key, item in self.definitions.items() if item.word in words]

    def names(self, near: Span, *words: Word) -> list[str]:
        """Every definition of ``words`` as the file of ``near`` can call it."""
        prefix = self._prefixes[near.source.name]
        ways = {prefix: ""}
        for name, target in self._targets.items():
            start, dot, alias = name.rpartition(".")
            if target is not None and start + dot == prefix:
                ways.setdefault(target, f"{alias}.")
        return [
            ways[item.prefix] + item.name.text
            for item in self.definitions.values()
            if item.word in words and item.prefix in ways
        ]

    def find(self, ref: Ref) -> Definition | None:
        """What ``ref`` names; looking marks it, and the imports that lead to it, as used."""
        key = self._key(ref)
        definition = None if key is None else self.definitions.get(key)
        if definition is not None:
            self._used.add(definition.key)
        return definition

    def look_up(self, ref: Ref, *words: Word) -> Definition | None:
        definition = self.find(ref)
        return definition if definition is not None and definition.word in words else None

    def is_broken(self, ref: Ref) -> bool:
        """Whether ``ref`` leads through an import that failed, which is reported there."""
        prefix = self._prefixes[ref.span.source.name]
        for alias in ref.parts[:-1]:
            target = self._targets.get(prefix + alias, "")
            if target is None:
                return True
            prefix = target
        return False

    def _key(self, ref: Ref) -> str | None:
        prefix = self._prefixes[ref.span.source.name]
        for alias in ref.parts[:-1]:
            target = self._targets.get(prefix + alias)
            if target is None:
                return None
            self._used.add(prefix + alias)
            prefix = target
        return prefix + ref.parts[-1]

    def unused(self) -> list[Definition]:
        """Of the recipe itself; policies are entry points and never unused."""
        return [
            item
            for key, item in self.definitions.items()
            if key not in self._used and not item.prefix and item.word != "policy"
        ]


def collect(namespaces: Sequence[Namespace]) -> tuple[Scope, list[Diagnostic]]:
    """The first definition of a name in a file counts."""
    found: dict[str, Definition] = {}
    diagnostics: list[Diagnostic] = []
    for definition in (item for one in namespaces for item in _definitions(one)):
        name = definition.name
        if name.text in RESERVED:
            diagnostics.append(word_of_the_language(name))
        elif definition.key in found:
            diagnostics.append(defined_twice(name, found[definition.key].name))
        else:
            found[definition.key] = definition
    return Scope(namespaces, found), diagnostics


def _definitions(namespace: Namespace) -> Iterable[Definition]:
    prefix = namespace.prefix
    for item in namespace.imports:
        yield Definition("import", prefix + item.alias.text, item.alias, item.node)
    for node in namespace.file.statements:
        match node:
            case Let(name) | Param(name) | Select(name) | SchemeDef(name) | PolicyDef(name):
                yield Definition(_WORDS[type(node)], prefix + name.text, name, node)
            case _:
                pass


_WORDS: Mapping[type[object], Word] = {
    Let: "let",
    Param: "param",
    Select: "select",
    SchemeDef: "scheme",
    PolicyDef: "policy",
}


def unknown_name(ref: Ref, what: str, scope: Scope, known: Iterable[str]) -> Diagnostic:
    """QR201."""
    guess = did_you_mean(ref.text, known)
    other = scope.find(ref)
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
        help="rename or delete one; all definitions and imports of a file share one namespace",
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

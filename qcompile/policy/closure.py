"""A recipe with every file that it imports, each once, and what each file calls the others."""

import posixpath
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import field

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Source
from qcompile.policy.imports import LIBRARY, Loader, Refusal, locate, refused
from qcompile.syntax.nodes import Import, Name, RecipeFile
from qcompile.syntax.parse import parse

MAX_DEPTH = 16
"""Files that import one another in a row, the recipe counted."""
MAX_FILES = 64
MAX_CHARACTERS = 1 << 21
"""Of the whole closure: two files as large as a file may be."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@frozen
class Imported:
    """One ``import``; ``target`` is ``None`` where it failed, which is reported."""

    alias: Name
    node: Import
    target: str | None


@frozen
class Namespace:
    """One file of the closure.

    ``prefix`` is how the recipe calls it, by the shortest way: nothing for itself, ``cnn.`` or
    ``base.lib.`` for an import.
    """

    file: RecipeFile
    source: Source
    prefix: str
    imports: tuple[Imported, ...]


@frozen
class _Loaded:
    file: RecipeFile
    source: Source
    imports: list[Imported] = field(default_factory=list[Imported])


def load_closure(
    file: RecipeFile, source: Source, loader: Loader
) -> tuple[tuple[Namespace, ...], list[Diagnostic]]:
    """The recipe first; what cannot be imported is left out and reported."""
    walk = _Walk(loader)
    walk.visit(file, source, ())
    return _named(walk.loaded, source.name), walk.diagnostics


def _named(loaded: Mapping[str, _Loaded], first: str) -> tuple[Namespace, ...]:
    """Breadth first, so that a file is called by the shortest way to it."""
    prefixes = {first: ""}
    waiting = deque([first])
    found: list[Namespace] = []
    while waiting:
        name = waiting.popleft()
        one = loaded[name]
        found.append(Namespace(one.file, one.source, prefixes[name], tuple(one.imports)))
        for item in one.imports:
            if item.target is not None and item.target not in prefixes:
                prefixes[item.target] = f"{prefixes[name]}{item.alias.text}."
                waiting.append(item.target)
    return tuple(found)


class _Walk:
    """Depth first over the imports; every file is read once."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.loaded: dict[str, _Loaded] = {}
        self.diagnostics: list[Diagnostic] = []
        self._refusals: dict[str, Refusal] = {}
        self._broken: set[str] = set()
        self._characters = 0

    def visit(self, file: RecipeFile, source: Source, above: tuple[str, ...]) -> None:
        here = self.loaded[source.name] = _Loaded(file, source)
        taken: set[str] = set()
        for node in (item for item in file.statements if isinstance(item, Import)):
            alias = _alias(node)
            target = self._target(node, alias, (*above, source.name))
            if isinstance(target, Refusal):
                self.diagnostics.append(refused(node, target))
                target = None
            # a name given twice is reported where all names of the file are
            if isinstance(alias, Name):
                again = alias.text in taken
                here.imports.append(Imported(alias, node, None if again else target))
                taken.add(alias.text)

    def _target(
        self, node: Import, alias: Name | Refusal, above: tuple[str, ...]
    ) -> str | Refusal | None:
        """``None`` for a file with errors of its own."""
        if isinstance(alias, Refusal):
            return alias
        name = locate(node.path.value, above[-1])
        if isinstance(name, Refusal):
            return name
        if name in above:
            return _cycle([*above[above.index(name) :], name])
        if name in self._refusals:
            return self._refusals[name]
        if name not in self.loaded and name not in self._broken:
            problem = self._load(name, above)
            if problem is not None:
                self._refusals[name] = problem
                return problem
        return None if name in self._broken else name

    def _load(self, name: str, above: tuple[str, ...]) -> Refusal | None:
        if len(above) >= MAX_DEPTH:
            return Refusal(f"imports are nested deeper than {MAX_DEPTH} files", _FEWER)
        if len(self.loaded) + len(self._broken) >= MAX_FILES:
            return Refusal(f"the recipe has more than {MAX_FILES} files", _FEWER)
        source = self.loader.read(name)
        if isinstance(source, Refusal):
            return source
        self._characters += len(source.text)
        if self._characters > MAX_CHARACTERS:
            return Refusal(f"the imports have more than {MAX_CHARACTERS} characters", _FEWER)
        file, problems = parse(source)
        if file is None:
            self._broken.add(name)
            self.diagnostics += problems
        else:
            self.visit(file, source, above)
        return None


_FEWER = "put several small files into one"


def _cycle(names: Sequence[str]) -> Refusal:
    return Refusal(
        f"a cycle: {' -> '.join(f'`{name}`' for name in names)}",
        "move what both files need into a third",
    )


def _alias(node: Import) -> Name | Refusal:
    """Without ``as`` the name of the file, if a name of the language can be made of it."""
    if node.alias is not None:
        return node.alias
    stem = posixpath.basename(node.path.value.removeprefix(LIBRARY)).removesuffix(".qrecipe")
    if _NAME.fullmatch(stem):
        return Name(stem, node.path.span)
    suggestion = re.sub(r"\W+", "_", stem).strip("_") or "lib"
    return Refusal(
        f"`{stem}` is not a name of the language", f"write `as {suggestion}` after the path"
    )

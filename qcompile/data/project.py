"""The project around a recipe: whose code may run, and where modules are looked for."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import cast

MARKERS = ("qcompile.toml", ".git", "pyproject.toml")
INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of installed packages; a virtual environment inside a project is not its code."""
OURSELVES = "qcompile"


@dataclass(frozen=True, slots=True)
class Project:
    """``directory`` holds the recipe; ``trusted`` are top-level packages the user allowed."""

    directory: Path
    root: Path
    trusted: frozenset[str] = frozenset()

    def owns(self, file: Path) -> bool:
        """Whether ``file``, links followed, is code of the project itself."""
        resolved = file.resolve()
        if not resolved.is_relative_to(self.root):
            return False
        return INSTALLED.isdisjoint(resolved.relative_to(self.root).parts)

    def shown(self, file: Path) -> str:
        """``file`` as the user would write it."""
        resolved = file.resolve()
        inside = resolved.is_relative_to(self.root)
        return str(resolved.relative_to(self.root) if inside else resolved)

    @property
    def search_path(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(str, (self.directory, self.root, Path.cwd()))))


def project_around(directory: Path, trusted: frozenset[str] = frozenset()) -> Project:
    """The root is the nearest folder with one of ``MARKERS``, else ``directory``."""
    start = directory.resolve()
    for folder in (start, *start.parents):
        if any((folder / marker).exists() for marker in MARKERS):
            return Project(start, folder, trusted)
    return Project(start, start, trusted)


@contextmanager
def on_path(project: Project) -> Generator[None]:
    """Put the project before everything else on ``sys.path``, as Python does for a script."""
    before = list(sys.path)
    sys.path[:0] = project.search_path
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def own_modules(project: Project) -> Generator[None]:
    """Hide loaded modules that have the name, but not the file, of one of the project's.

    One process may load two projects that both have a ``model.py``; each must see its own.
    """
    hidden = {name: sys.modules[name] for name in _foreign(project)}
    for name in hidden:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in _with_submodules({name.partition(".")[0] for name in hidden}):
            del sys.modules[name]
        sys.modules.update(hidden)


def _foreign(project: Project) -> list[str]:
    tops = {name for name in _top_levels(project) if _differs(sys.modules.get(name), name, project)}
    return _with_submodules(tops)


def _top_levels(project: Project) -> set[str]:
    names: set[str] = set()
    for folder in {project.directory, project.root}:
        if folder.is_dir():
            names.update(path.name.removesuffix(".py") for path in folder.iterdir())
    return names - sys.stdlib_module_names - {OURSELVES}


def _differs(loaded: ModuleType | None, name: str, project: Project) -> bool:
    if loaded is None:
        return False
    spec = PathFinder.find_spec(name, list(project.search_path))
    if spec is None or not spec.has_location or spec.origin is None:
        return False
    file = cast("str | None", getattr(loaded, "__file__", None))
    return file is None or Path(file).resolve() != Path(spec.origin).resolve()


def _with_submodules(tops: set[str]) -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in tops]

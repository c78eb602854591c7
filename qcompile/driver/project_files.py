"""The files a recipe may import: those of its project, and the libraries that ship with us."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from qcompile.data.project import project_around
from qcompile.diagnostics.source import Source
from qcompile.driver.recipes import library_names, library_path
from qcompile.policy.imports import LIBRARY, Refusal, not_found
from qcompile.syntax.read import read

MAX_LISTED = 1000
"""Files of a folder that are looked through for a name like the one that was not found."""


@dataclass(frozen=True, slots=True)
class ProjectFiles:
    """Reads nothing outside ``root``, whatever links say."""

    root: Path

    @classmethod
    def around(cls, recipe: Path) -> "ProjectFiles":
        return cls(project_around(recipe.parent).root)

    def read(self, name: str) -> Source | Refusal:
        if name.startswith(LIBRARY):
            return _library(name)
        try:
            path = Path(name).resolve()
        except (OSError, RuntimeError, ValueError):  # RuntimeError: links in a circle
            return Refusal("the path leads nowhere", "check the links on the way")
        if not path.is_relative_to(self.root):
            return Refusal(
                "it lies outside of the project",
                "move the file into the project, or put `qcompile.toml` into a folder above both",
                leaves=True,
            )
        return _source(path, name)


def _library(name: str) -> Source | Refusal:
    short = name.removeprefix(LIBRARY)
    known = library_names()
    if short not in known:
        listed = ", ".join(f'"{LIBRARY}{one}"' for one in known)
        return Refusal("there is no such library", f"the libraries are {listed}")
    return _source(library_path(short), name)


def _source(path: Path, name: str) -> Source | Refusal:
    try:
        exists = path.exists()
    except OSError:  # a name longer than the file system allows
        exists = False
    if not exists:
        return not_found(name, _beside(path, name))
    found = read(path, name)
    if isinstance(found, Source):
        return found
    first = found[0]
    return Refusal(first.message, first.help or "name a `.qrecipe` file")


def _beside(path: Path, name: str) -> list[str]:
    """Recipes in the folder that was named, by the names they would have."""
    try:
        files = [file.name for file in islice(path.parent.iterdir(), MAX_LISTED)]
    except OSError:
        return []
    folder = name.rpartition("/")[0]
    recipes = sorted(file for file in files if file.endswith(".qrecipe"))
    return [f"{folder}/{file}" if folder else file for file in recipes]

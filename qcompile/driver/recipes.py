"""The recipes that ship with the package: ``_recipes`` in a wheel, ``recipes/`` in a checkout."""

from importlib.resources import files
from pathlib import Path

ENDING = ".qrecipe"


def recipe_path(name: str) -> Path:
    """File of the packaged recipe ``name`` (without ending)."""
    return _folder() / f"{name}{ENDING}"


def library_path(name: str) -> Path:
    """File of the library that a recipe imports as ``std:name``."""
    return _folder() / "std" / f"{name}{ENDING}"


def library_names() -> list[str]:
    return sorted(path.stem for path in (_folder() / "std").glob(f"*{ENDING}"))


def _folder() -> Path:
    packaged = Path(str(files("qcompile").joinpath("_recipes")))
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "recipes"

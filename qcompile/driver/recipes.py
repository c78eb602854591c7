"""The recipes that ship with the package: ``_recipes`` in a wheel, ``recipes/`` in a checkout."""

from importlib.resources import files
from pathlib import Path


def recipe_path(name: str) -> Path:
    """File of the packaged recipe ``name`` (without ending)."""
    packaged = Path(str(files("qcompile").joinpath("_recipes")))
    folder = packaged if packaged.is_dir() else Path(__file__).parents[2] / "recipes"
    return folder / f"{name}.qrecipe"

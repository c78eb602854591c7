"""The page of a code: packaged as ``_errors``, written in ``docs/errors``."""

from importlib.resources import files
from pathlib import Path

from qcompile.diagnostics.codes import Code


def page(code: Code) -> str:
    """Markdown text of the page of ``code``."""
    name = f"{code.number}.md"
    packaged = files("qcompile").joinpath("_errors", name)
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    # an editable install has no packaged copy: the repository is beside the package
    return (Path(__file__).parents[2] / "docs" / "errors" / name).read_text(encoding="utf-8")

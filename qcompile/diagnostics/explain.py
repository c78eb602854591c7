"""The page of a code, and the schema of diagnostics as JSON.

Packaged as ``_errors`` and ``_schemas``, written in ``docs/errors`` and ``docs/schemas``.
"""

import re
from importlib.resources import files
from pathlib import Path

from qcompile.diagnostics.codes import Code

JSON_SCHEMA = "diagnostics-1.0.json"


def page(code: Code) -> str:
    """Markdown text of the page of ``code``."""
    return _document("errors", f"{code.number}.md")


def first_sentence(text: str) -> str:
    """What a page says first below its title: the meaning of the code in one sentence."""
    meaning = text.split("\n\n")[1].replace("\n", " ")
    # a full stop inside `a.b` or 0.5 ends nothing
    return re.split(r"(?<=[.?!]) ", meaning)[0]


def json_schema() -> str:
    """JSON schema (draft 2020-12) of what ``--format json`` says of diagnostics."""
    return _document("schemas", JSON_SCHEMA)


def _document(folder: str, name: str) -> str:
    packaged = files("qcompile").joinpath(f"_{folder}", name)
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    # an editable install has no packaged copy: the repository is beside the package
    return (Path(__file__).parents[2] / "docs" / folder / name).read_text(encoding="utf-8")

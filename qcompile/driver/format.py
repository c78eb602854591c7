"""Recipe files in their canonical layout, or in the other of their two forms. Loads no torch."""

import os
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Source
from qcompile.store.atomic import write_file
from qcompile.store.disk import Disk
from qcompile.syntax.format import format_text
from qcompile.syntax.json_form import ENDING as JSON_ENDING
from qcompile.syntax.json_form import as_recipe_text, is_json_name, json_text
from qcompile.syntax.limits import MAX_FILE_BYTES, MAX_JSON_BYTES
from qcompile.syntax.parse import parse
from qcompile.syntax.read import decode, read_as_written

ENDING = ".qrecipe"
PIPE = "<stdin>"
MAX_PIPE_BYTES = MAX_JSON_BYTES + 1
"""More need not be read to refuse it."""


class Form(Enum):
    TEXT = "qrecipe"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Formatted:
    """``before`` is the content of the file, ``after`` what it is to be."""

    path: Path
    before: Source
    after: Source

    @property
    def is_changed(self) -> bool:
        return self.before.text != self.after.text


def format_file(path: Path, form: Form | None = None) -> Formatted | list[Diagnostic]:
    """Lay out the recipe in ``path``; in ``form``, if given, whichever form it has now."""
    before = read_as_written(path)
    return before if isinstance(before, list) else format_source(before, form)


def format_source(before: Source, form: Form | None = None) -> Formatted | list[Diagnostic]:
    """The same of a text that is at hand."""
    text = before
    if is_json_name(before.name):
        form = form or Form.JSON
        text = as_recipe_text(before)
        if isinstance(text, list):
            return text
    after = _as_json(text) if form is Form.JSON else format_text(text)
    return (
        after
        if isinstance(after, list)
        else Formatted(Path(before.name), before, Source(before.name, after))
    )


def format_bytes(data: bytes, form: Form | None = None) -> Formatted | list[Diagnostic]:
    """The same of what came through a pipe: a text that begins with ``{`` is the form in JSON."""
    is_json = data.removeprefix(BOM_UTF8).lstrip()[:1] == b"{"
    name = PIPE + JSON_ENDING if is_json else PIPE
    before = decode(data, name, MAX_JSON_BYTES if is_json else MAX_FILE_BYTES)
    return before if isinstance(before, list) else format_source(before, form)


def recipes_in(paths: Iterable[Path]) -> list[Path]:
    """Files as they are named, folders as the recipes below them; hidden folders are left out."""
    found = [path for given in paths for path in _recipes(given)]
    return list(dict.fromkeys(found))


def write(path: Path, text: str) -> list[Diagnostic]:
    """Replace the content of ``path``, or make it; a link stays one."""
    return write_file(Disk(), Path(os.path.realpath(path)), text.encode())


def _as_json(source: Source) -> str | list[Diagnostic]:
    file, problems = parse(source)
    return problems if file is None else json_text(file)


def _recipes(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, inner, files in os.walk(path):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if name.endswith(ENDING))

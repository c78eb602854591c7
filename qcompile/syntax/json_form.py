"""A recipe as JSON, for programs that write recipes: the same tree in another spelling.

One recipe has one such text: sorted keys, numbers in their shortest form, every field there.
"""

import json
from typing import cast

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Source
from qcompile.syntax.comment_places import Place, Placed, placed_comments
from qcompile.syntax.node_json import NOWHERE, Json, Malformed, check_fields, decode, encode
from qcompile.syntax.nodes import Number, RecipeFile, Statement
from qcompile.syntax.parse import parse
from qcompile.syntax.to_text import text_of

FORMAT_VERSION = "1.0"
ENDING = ".qrecipe.json"
AS_TEXT = " (as text)"
"""Told with the name of a JSON file where a place in its text is shown."""


def is_json_name(name: str) -> bool:
    return name.endswith(ENDING)


def to_json(file: RecipeFile) -> dict[str, Json]:
    """Give the document; a comment's ``at`` is the index of a statement, of a row in it, ..."""
    return {
        "format_version": FORMAT_VERSION,
        "language": encode(file.version.value),
        "statements": encode(file.statements),
        "comments": [
            {"text": one.text, "place": one.place.value, "at": list(one.at)}
            for one in placed_comments(file)
        ],
    }


def json_text(file: RecipeFile) -> str:
    return f"{json.dumps(to_json(file), indent=2, sort_keys=True, ensure_ascii=False)}\n"


def from_json(text: str, name: str) -> RecipeFile | list[Diagnostic]:
    """The recipe that ``text`` holds; its spans point into its text in the language."""
    source = as_recipe_text(Source(name, text))
    if isinstance(source, list):
        return source
    file, problems = parse(source)
    return problems if file is None else file


def as_recipe_text(source: Source) -> Source | list[Diagnostic]:
    """Canonical text of the recipe in the JSON text ``source``."""
    try:
        file, comments = _read(source.text)
    except Malformed as problem:
        return [_malformed(source.name, problem)]
    text = text_of(file, comments, source.name, AS_TEXT)
    if text is None:
        problem = Malformed("$", "no recipe has this tree and these comments")
        return [_malformed(source.name, problem)]
    return text if isinstance(text, list) else Source(source.name, text, AS_TEXT)


def _read(text: str) -> tuple[RecipeFile, tuple[Placed, ...]]:
    document = _document(text)
    if not isinstance(document, dict):
        raise Malformed("$", "expected an object")
    _check_version(document)
    check_fields(document, {"format_version", "language", "statements", "comments"}, "$")
    language = decode(document["language"], int | float, "$.language")
    if not isinstance(language, int):
        raise Malformed("$.language", "expected a whole number")
    statements = decode(document["statements"], tuple[Statement, ...], "$.statements")
    version = Number(language, NOWHERE)
    file = RecipeFile(version, cast("tuple[Statement, ...]", statements), NOWHERE)
    return file, _comments(document["comments"])


def _document(text: str) -> Json:
    try:
        return cast("Json", json.loads(text, object_pairs_hook=_object))
    except RecursionError:
        raise Malformed("$", "nested too deep") from None
    except ValueError as error:
        raise Malformed("$", f"not JSON: {error}".lower()) from None


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name!r} stands twice in one object")
        found[name] = value
    return found


def _check_version(document: dict[str, Json]) -> None:
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        message = f"expected the format version `{FORMAT_VERSION}`"
        raise Malformed("$.format_version", message)


def _comments(value: Json) -> tuple[Placed, ...]:
    if not isinstance(value, list):
        raise Malformed("$.comments", "expected a list")
    return tuple(_comment(item, f"$.comments[{index}]") for index, item in enumerate(value))


def _comment(value: Json, path: str) -> Placed:
    if not isinstance(value, dict):
        raise Malformed(path, "expected an object")
    check_fields(value, {"text", "place", "at"}, path)
    text = decode(value["text"], str, f"{path}.text", r"#[^\n]*")
    place = decode(value["place"], str, f"{path}.place", "|".join(one.value for one in Place))
    at = value["at"]
    if not isinstance(at, list) or not all(type(index) is int for index in at):
        raise Malformed(f"{path}.at", "expected a list of whole numbers")
    return Placed(str(text).rstrip(), Place(place), tuple(cast("list[int]", at)))


def _malformed(name: str, problem: Malformed) -> Diagnostic:
    """QR115: JSON that is no tree of a recipe."""
    return Diagnostic(
        Code.NOT_A_RECIPE_JSON,
        problem.message,
        subject=f"{name}: {problem.path}",
        help="write this file with `qcompile fmt --to json`, or start from what that prints",
    )

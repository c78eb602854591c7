import json
from pathlib import Path

import pytest

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Source
from qcompile.syntax.json_form import from_json, json_text, to_json
from qcompile.syntax.limits import MAX_FILE_BYTES
from qcompile.syntax.meaning import same_comments, same_meaning
from qcompile.syntax.nodes import RecipeFile
from qcompile.syntax.parse import parse
from qcompile.syntax.read import read, read_as_written

GOLDEN = Path(__file__).parents[1] / "golden"
TEXTS = [*sorted((GOLDEN / "ok").glob("*.qrecipe")), *sorted((GOLDEN / "format").glob("*.qrecipe"))]
SMALL = """qrecipe 1
# about it
policy main {
  use w8 for conv and "layer*.**"  # why
}
"""


def tree(text: str) -> RecipeFile:
    file, diagnostics = parse(Source("x.qrecipe", text))
    assert diagnostics == []
    assert file is not None
    return file


def document() -> dict:
    return json.loads(json_text(tree(SMALL)))


def refused(value: object) -> Diagnostic:
    text = value if isinstance(value, str) else json.dumps(value)
    found = from_json(text, "x.qrecipe.json")
    assert isinstance(found, list)
    return found[0]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_json_and_back_gives_tree_and_comments(path: Path) -> None:
    before = tree(path.read_text(encoding="utf-8"))
    after = from_json(json_text(before), "x.qrecipe.json")
    assert isinstance(after, RecipeFile)
    assert same_meaning(before, after)
    assert same_comments(before, after)
    assert json_text(after) == json_text(before)


def test_document_says_what_the_recipe_says() -> None:
    assert to_json(tree(SMALL)) == {
        "format_version": "1.0",
        "language": 1,
        "comments": [
            {"text": "# about it", "place": "before", "at": [0]},
            {"text": "# why", "place": "beside", "at": [0, 0]},
        ],
        "statements": [
            {
                "node": "policy_def",
                "name": "main",
                "base": None,
                "rules": [
                    {
                        "node": "use",
                        "scheme": {"node": "ref", "parts": ["w8"]},
                        "selector": {
                            "node": "binary",
                            "op": "and",
                            "left": {"node": "ref", "parts": ["conv"]},
                            "right": {"node": "string", "value": "layer*.**"},
                        },
                        "final": False,
                        "optional": False,
                    }
                ],
            }
        ],
    }


def test_text_does_not_depend_on_layout() -> None:
    other = SMALL.replace("  use", "\n\n      use").replace(" and ", "\n and ")
    assert json_text(tree(other)) == json_text(tree(SMALL))


def test_keys_are_sorted() -> None:
    text = json_text(tree(SMALL))
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("# a\nqrecipe 1 # b\n# c\n", [("top", []), ("version", []), ("closing", [])]),
        ("qrecipe 1; let a = 1 # b\n", [("beside", [0])]),
        ("qrecipe 1\npolicy p { # a\n # b\n}", [("opening", [0]), ("closing", [0])]),
        ("qrecipe 1\npolicy p { skip a # b\n or c }", [("before", [0, 0])]),
        (
            "qrecipe 1\ntune x for a # {\n # y\n or b { # z\n c = 1 }",
            [("before", [0]), ("before", [0]), ("opening", [0])],
        ),
        (
            "qrecipe 1\npolicy p {\n within a {\n skip b\n # c\n } # d\n}",
            [("closing", [0, 0]), ("beside", [0, 0])],
        ),
    ],
)
def test_comment_is_told_by_its_line_in_the_tree(text: str, places: list) -> None:
    found = to_json(tree(text))["comments"]
    assert [(one["place"], one["at"]) for one in found] == places
    assert isinstance(from_json(json_text(tree(text)), "x"), RecipeFile)


def test_spans_point_into_the_canonical_text() -> None:
    file = from_json(json_text(tree(SMALL)), "x.qrecipe.json")
    assert isinstance(file, RecipeFile)
    span = file.statements[0].span
    assert span.text.startswith("policy main {")
    assert str(span) == "x.qrecipe.json (as text):4:1"


def change(path: list, value: object) -> dict:
    found = document()
    place = found
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return found


RULE = ["statements", 0, "rules", 0]


@pytest.mark.parametrize(
    ("broken", "where", "what"),
    [
        ("", "$", "not json"),
        ("[1]", "$", "expected an object"),
        ("[" * 100_000, "$", "nested too deep"),
        ('{"a": 1, "a": 2}', "$", "the key 'a' stands twice"),
        ("{}", "$.format_version", "`1.0`"),
        (change(["format_version"], "2.0"), "$.format_version", "`1.0`"),
        (change(["more"], 1), "$", "unknown field `more`"),
        (change(["language"], 1.5), "$.language", "whole number"),
        (change(["language"], True), "$.language", "expected a number, found true"),
        (change(["language"], -1), "$.language", "without a sign"),
        (change(["statements"], {}), "$.statements", "expected a list, found an object"),
        (change(["statements", 0], "skip"), "$.statements[0]", "expected an object"),
        (change(["statements", 0, "node"], "use"), "$.statements[0].node", "`policy_def`"),
        (change(["statements", 0, "node"], []), "$.statements[0].node", "`policy_def`"),
        (change(["statements", 0, "name"], "a b"), "$.statements[0].name", "`a b` cannot stand"),
        (change(["statements", 0, "name"], "a {}\n"), "$.statements[0].name", "a string cannot"),
        (change([*RULE, "final"], 1), "$.statements[0].rules[0].final", "true or false"),
        (change([*RULE, "scheme"], None), "$.statements[0].rules[0].scheme", "found null"),
        (
            change([*RULE, "scheme", "parts"], [1]),
            "$.statements[0].rules[0].scheme.parts[0]",
            "a n",
        ),
        (change([*RULE, "selector", "op"], "xor"), "$.statements[0].rules[0].selector.op", "xor"),
        (
            change([*RULE, "selector", "right", "value"], "\ud800"),
            "$.statements[0].rules[0].selector.right.value",
            "UTF-8",
        ),
        (change(["comments", 0, "text"], "let a = 1"), "$.comments[0].text", "cannot stand"),
        (change(["comments", 0, "text"], "# a\nlet b = 1"), "$.comments[0].text", "cannot stand"),
        (change(["comments", 0, "place"], "under"), "$.comments[0].place", "`under`"),
        (change(["comments", 0, "at"], [True]), "$.comments[0].at", "whole numbers"),
        (change(["comments", 0, "at"], [7]), "$", "these comments"),
    ],
)
def test_what_is_no_recipe_is_refused_with_its_place(broken: object, where: str, what: str) -> None:
    found = refused(broken)
    assert found.code.number == "QR115"
    assert found.subject == f"x.qrecipe.json: {where}"
    assert what in found.message


def test_missing_field_is_named() -> None:
    value = document()
    del value["statements"][0]["rules"][0]["final"]
    found = refused(value)
    assert found.subject == "x.qrecipe.json: $.statements[0].rules[0]"
    assert found.message == "the field `final` is missing"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 5000])
def test_number_that_no_recipe_can_hold(number: str) -> None:
    text = json_text(tree("qrecipe 1\nlet a = 12345\n")).replace("12345", number)
    assert refused(text).code.number == "QR115"


def test_word_that_the_grammar_reserves_is_shown_in_the_text() -> None:
    found = refused(change(["statements", 0, "name"], "weight"))
    assert found.code.number == "QR113"
    assert str(found.primary.span) == "x.qrecipe.json (as text):4:8"


def test_tree_that_reads_as_another_is_refused() -> None:
    value = document()
    slot = {"node": "slot_ref", "slot": "conv"}
    value["statements"].append({"node": "let", "name": "a", "value": slot})
    assert refused(value).message == "no recipe has this tree and these comments"


def test_json_file_is_read_as_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "a.qrecipe.json"
    path.write_text(json_text(tree(SMALL)))
    source = read(path)
    assert isinstance(source, Source)
    assert (source.name, source.text.splitlines()[0]) == (str(path), "qrecipe 1")
    assert same_meaning(tree(source.text), tree(SMALL))
    raw = read_as_written(path)
    assert isinstance(raw, Source)
    assert raw.text == path.read_text()


def test_json_file_may_be_longer_than_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.qrecipe.json"
    path.write_text(json_text(tree(SMALL)) + " " * MAX_FILE_BYTES)
    assert isinstance(read(path), Source)

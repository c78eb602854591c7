import json

import pytest
from sarif_pydantic import Sarif

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Applicability, Diagnostic, Fix, Label
from qcompile.diagnostics.explain import first_sentence, page
from qcompile.diagnostics.findings import Findings
from qcompile.diagnostics.sarif import FINGERPRINT, render_sarif
from qcompile.diagnostics.source import Source


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*items: Diagnostic, file: str = "a.qrecipe") -> dict:
    document = json.loads(render_sarif([Findings(file, items)], "1.2.3"))
    assert document["version"] == "2.1.0"
    Sarif.model_validate(document)  # others read it too
    (only,) = document["runs"]
    return only


def fingerprint(item: Diagnostic) -> str:
    return run(item)["results"][0]["partialFingerprints"][FINGERPRINT]


def in_text(text: str, at: str, code: Code = Code.UNREACHABLE_RULE) -> Diagnostic:
    start = text.index(at)
    return Diagnostic(code, "m", Label(Source("a b.qrecipe", text).span(start, start + len(at))))


def test_rules_are_the_codes_that_occur_with_the_words_of_their_pages() -> None:
    found = run(
        Diagnostic(Code.WEIGHT_FILE, "m"),
        Diagnostic(Code.NO_SEED, "m"),
        Diagnostic(Code.NO_SEED, "m"),
    )
    rules = found["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["QR522", "QR704"]
    assert rules[0]["shortDescription"]["text"] == first_sentence(page(Code.WEIGHT_FILE))
    assert rules[0]["help"]["markdown"].startswith("# QR522")
    assert [rule["defaultConfiguration"]["level"] for rule in rules] == ["error", "warning"]
    for result in found["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


def test_region_counts_lines_and_characters_from_one() -> None:
    (result,) = run(in_text("é\nuse w4 for conv", "w4 for"))["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "a%20b.qrecipe", "uriBaseId": "%SRCROOT%"}
    assert place["region"] == {"startLine": 2, "startColumn": 5, "endLine": 2, "endColumn": 11}


def test_secondary_labels_are_related_locations() -> None:
    source = Source("a", "one\ntwo")
    labels = (Label(source.span(4, 7), "defined here"), Label(source.span(0, 1)))
    item = Diagnostic(Code.DUPLICATE_NAME, "m", Label(source.span(0, 3)), labels)
    related = run(item)["results"][0]["relatedLocations"]
    assert [(one["id"], one["message"]["text"]) for one in related] == [
        (1, "defined here"),
        (2, "see also"),
    ]
    assert related[0]["physicalLocation"]["region"]["startLine"] == 2


def test_fixes_are_replacements() -> None:
    source = Source("a", "use 'x'")
    fix = Fix(source.span(4, 7), '"x"', Applicability.UNSAFE)
    item = Diagnostic(Code.SINGLE_QUOTES, "m", Label(source.span(4, 7)), fixes=(fix,))
    ((written,),) = ([run(item)["results"][0]["fixes"][0]],)
    assert written["description"]["text"] == "unsafe fix"
    (change,) = written["artifactChanges"]
    assert change["replacements"] == [
        {
            "deletedRegion": {"startLine": 1, "startColumn": 5, "endLine": 1, "endColumn": 8},
            "insertedContent": {"text": '"x"'},
        }
    ]


def test_finding_without_text_is_placed_on_the_checked_file() -> None:
    item = Diagnostic(Code.WEIGHT_FILE, "no file", subject="w.safetensors", help="look")
    (result,) = run(item, file="b.qrecipe")["results"]
    assert result["locations"] == [
        {"physicalLocation": {"artifactLocation": {"uri": "b.qrecipe", "uriBaseId": "%SRCROOT%"}}}
    ]
    assert result["message"]["text"] == "no file\nat w.safetensors\nhelp: look"


def test_fingerprint_survives_moved_and_reindented_lines_only() -> None:
    here = in_text("policy { use w4 for conv }", "w4")
    assert fingerprint(here) == fingerprint(in_text("\n\n  policy {\tuse  w4 for conv }", "w4"))
    assert fingerprint(here) != fingerprint(in_text("policy { use w4 for linear }", "w4"))
    other = in_text("policy { use w4 for conv }", "w4", Code.UNUSED_NAME)
    assert fingerprint(here) != fingerprint(other)


def test_equal_lines_have_different_fingerprints() -> None:
    source = Source("a", "skip x\nskip x\n")
    items = [Diagnostic(Code.NO_WEIGHT, "m", Label(source.span(n, n + 4))) for n in (0, 7)]
    first, second = (r["partialFingerprints"][FINGERPRINT] for r in run(*items)["results"])
    assert first.removesuffix(":1") == second.removesuffix(":2")
    assert first != second


def test_name_that_is_no_text_does_not_stop_the_report() -> None:
    item = Diagnostic(Code.NOT_TEXT, "m", subject="a\udcff.qrecipe")
    assert "%FF" in render_sarif([Findings("a\udcff.qrecipe", (item,))], "1")


@pytest.mark.parametrize("code", list(Code), ids=str)
def test_every_page_has_a_first_sentence_of_its_own(code: Code) -> None:
    sentence = first_sentence(page(code))
    assert sentence.endswith((".", "?", ":", "`."))
    assert 15 < len(sentence) < 160

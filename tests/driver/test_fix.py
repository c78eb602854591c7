import os
from pathlib import Path

import pytest

from qcompile.diagnostics.findings import Selection
from qcompile.diagnostics.source import Source
from qcompile.driver.fix import difference, fix, save
from qcompile.driver.front import check_source

HEAD = 'qrecipe 1\nmodel "zoo:resnet20"\nscheme w8 { weight int8 }\n'
POLICY = "policy main {\n  use w8 for linear\n}\n"


def fixed(text: str, *select: str) -> str:
    return fix(Source("a", text), selection=Selection(select)).source.text


def test_several_fixes_of_one_pass_and_what_they_uncover() -> None:
    policy = "policy main {\n  use w8 for layer1.* && conv\n  skip 'fc'\n}\n"
    text = f"{HEAD}{policy}select a = b\nselect b = conv\n"
    after = fixed(text)
    assert after == HEAD + 'policy main {\n  use w8 for "layer1.*" and conv\n  skip "fc"\n}\n'
    assert check_source(Source("a", after)).diagnostics == ()


def test_fixed_text_has_nothing_left_to_fix() -> None:
    for path in (Path(__file__).parents[1] / "golden" / "broken").glob("*.qrecipe"):
        once = fix(Source("a", path.read_text(encoding="utf-8"))).source
        assert fix(once).applied == ()


def test_every_applied_fix_is_told() -> None:
    done = fix(Source("a", f"{HEAD}select tmp = conv\n{POLICY}"))
    assert [(d.code.number, str(d.primary.span)) for d in done.applied if d.primary] == [
        ("QR206", "a:4:8")
    ]


def test_deleted_statement_takes_its_line_along() -> None:
    assert fixed(f"{HEAD}select tmp = conv\n{POLICY}") == HEAD + POLICY
    assert fixed(f"{HEAD}select tmp = conv # why\n{POLICY}") == f"{HEAD} # why\n{POLICY}"


def test_guess_is_not_applied() -> None:
    text = f'{HEAD}{POLICY}calibrate {{ data = "zoo:fashion_mnist"; smaples = 3 }}\n'
    assert "QR409" in {d.code.number for d in check_source(Source("a", text)).diagnostics}
    assert fixed(text) == text


def test_misspelt_reference_does_not_delete_its_definition() -> None:
    text = HEAD + POLICY.replace("w8", "w88")
    assert {d.code.number for d in check_source(Source("a", text)).diagnostics} >= {"QR201"}
    assert fixed(text) == text


def test_only_selected_codes_are_fixed() -> None:
    text = f"{HEAD}select tmp = conv\n{POLICY}# qcompile: ignore[QR206] old\n"
    assert fixed(text, "QR1") == f"{HEAD}select tmp = conv\n{POLICY}"
    assert fixed(text, "QR3") == text


def test_line_ends_stay() -> None:
    text = f"{HEAD}select tmp = conv\n{POLICY}"
    assert fixed(text.replace("\n", "\r\n")) == (HEAD + POLICY).replace("\n", "\r\n")


def test_difference_is_a_unified_diff() -> None:
    before, after = Source("a", "one\ntwo"), Source("a", "one\n")
    assert difference(before, after) == "--- a\n+++ a\n@@ -1,2 +1 @@\n one\n-two\n"
    assert difference(before, before) == ""


def test_saved_file_keeps_byte_order_mark_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.qrecipe"
    path.write_bytes(b"\xef\xbb\xbfold\r\n")
    assert save(path, "new\r\n") == []
    assert path.read_bytes() == b"\xef\xbb\xbfnew\r\n"
    assert os.listdir(tmp_path) == ["a.qrecipe"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_saved_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    assert save(tmp_path / "link", "new") == []
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"

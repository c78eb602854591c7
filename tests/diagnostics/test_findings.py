from pathlib import Path

import pytest

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.findings import Selection, counts, repository_path


def codes(found: list[Diagnostic]) -> list[str]:
    return [item.code.number for item in found]


ALL = [Diagnostic(code, "m") for code in (Code.UNMATCHED_PATTERN, Code.UNREACHABLE_RULE)]
ALL += [Diagnostic(code, "m") for code in (Code.UNUSED_NAME, Code.UNMATCHED_PATTERN)]


@pytest.mark.parametrize(
    ("select", "ignore", "left"),
    [
        ((), (), ["QR301", "QR303", "QR206", "QR301"]),
        (("QR3",), (), ["QR301", "QR303", "QR301"]),
        (("QR3",), ("QR303",), ["QR301", "QR301"]),
        ((), ("QR3", "QR2"), []),
        (("QR206", "QR303"), (), ["QR303", "QR206"]),
    ],
)
def test_codes_are_selected_by_the_start_of_their_number(select, ignore, left) -> None:
    assert codes(Selection(select, ignore).of(ALL)) == left


def test_counts_put_the_most_frequent_code_first() -> None:
    assert [(code.number, n) for code, n in counts(ALL)] == [
        ("QR301", 2),
        ("QR206", 1),
        ("QR303", 1),
    ]


def test_path_is_relative_to_the_nearest_repository(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "sub" / "qcompile.toml").touch()
    assert repository_path(str(tmp_path / "sub" / "deep" / "a.qrecipe")) == "sub/deep/a.qrecipe"


def test_without_a_repository_the_project_is_the_root(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "qcompile.toml").touch()
    assert repository_path(str(tmp_path / "sub" / "a.qrecipe")) == "sub/a.qrecipe"


def test_without_either_the_current_directory_is_the_root(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert repository_path("a.qrecipe") == "a.qrecipe"
    assert repository_path("../a.qrecipe") == (tmp_path.parent / "a.qrecipe").as_posix()

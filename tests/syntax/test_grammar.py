import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcompile.syntax import grammar

posix_only = pytest.mark.skipif(os.name == "nt", reason="permissions are those of POSIX")
RECIPE = "qrecipe 1\npolicy main { use a for conv or linear }\n"


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(grammar, "user_cache_path", lambda name: tmp_path / name)
    grammar.parser.cache_clear()
    yield tmp_path
    grammar.parser.cache_clear()


def cache_files(home: Path) -> list[Path]:
    return [path for path in home.rglob("*-lark*") if path.suffix != ".lock"]


def test_parser_is_built_once() -> None:
    assert grammar.parser() is grammar.parser()


@posix_only
def test_tables_are_cached_for_the_user_alone(cache_home: Path) -> None:
    grammar.parser()
    (tables,) = cache_files(cache_home)
    assert stat.S_IMODE(tables.parent.stat().st_mode) == 0o700


def test_parser_from_the_cache_gives_the_same_tree(cache_home: Path) -> None:
    built = grammar.parser().parse(RECIPE)
    (tables,) = cache_files(cache_home)
    before = tables.stat().st_mtime_ns
    grammar.parser.cache_clear()
    assert grammar.parser().parse(RECIPE) == built
    assert tables.stat().st_mtime_ns == before


def test_damaged_cache_is_built_again(cache_home: Path) -> None:
    grammar.parser()
    (tables,) = cache_files(cache_home)
    tables.write_bytes(tables.read_bytes()[:100])
    grammar.parser.cache_clear()
    grammar.parser().parse(RECIPE)


@posix_only
def test_cache_that_others_may_write_is_ignored(cache_home: Path) -> None:
    grammar.parser()
    (tables,) = cache_files(cache_home)
    tables.write_bytes(b"not to be unpickled")
    tables.parent.chmod(0o777)
    grammar.parser.cache_clear()
    grammar.parser().parse(RECIPE)
    assert tables.read_bytes() == b"not to be unpickled"


def test_cache_that_is_a_link_is_ignored(cache_home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (cache_home / "qcompile").mkdir()
    (cache_home / "qcompile" / "grammar").symlink_to(tmp_path / "elsewhere")
    grammar.parser().parse(RECIPE)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_cache_that_cannot_be_made_is_no_error(cache_home: Path) -> None:
    (cache_home / "qcompile").write_text("a file where the folder should be")
    grammar.parser().parse(RECIPE)


def test_grammar_of_the_package_wins_over_that_of_the_repository(
    cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache_home / "_grammars").mkdir()
    text = grammar.parser().source_grammar + "\n// packaged\n"
    (cache_home / "_grammars" / "qrecipe.lark").write_text(text, encoding="utf-8")
    monkeypatch.setattr(grammar, "files", lambda _: cache_home)
    grammar.parser.cache_clear()
    assert grammar.parser().source_grammar == text
    assert len(cache_files(cache_home)) == 2

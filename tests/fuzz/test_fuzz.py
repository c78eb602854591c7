"""The fuzzer itself: its seeds are clean, and it notices, shrinks and keeps a planted fault."""

from pathlib import Path
from random import Random

import pytest

from qcompile.diagnostics.source import Source
from qcompile.syntax.parse import parse
from tests.fuzz import examine as examining
from tests.fuzz import fuzz
from tests.fuzz.edges import Edges
from tests.fuzz.examine import TooSlow, Violated, examine, within
from tests.fuzz.mutate import derived, mutated

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.qrecipe"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_seed_breaks_no_promise(path: Path) -> None:
    examine(path.read_bytes().decode(), seconds=20)


@pytest.mark.parametrize("seed", range(30))
def test_mutated_seeds_break_no_promise(seed: int) -> None:
    texts = [path.read_bytes().decode() for path in CORPUS]
    random = Random(seed)
    examine(mutated(random.choice(texts), texts, random), seconds=20)


@pytest.mark.parametrize("seed", range(20))
def test_derived_text_is_text_of_the_language(seed: int) -> None:
    text = "qrecipe 1\nselect a = " + derived("expr", Random(seed)) + "\n"
    file, found = parse(Source("a", text))
    assert file is not None or {item.code.number for item in found} <= {"QR101", "QR120"}, text


def test_what_takes_too_long_is_stopped() -> None:
    with pytest.raises(TooSlow), within(0.05):
        all(number >= 0 for number in range(10**8))


def test_edges_tell_new_texts_from_known_ones() -> None:
    edges = Edges()

    def run(text: str) -> None:
        parse(Source("a", text))

    assert edges.of(run, "qrecipe 1\n")
    assert not edges.of(run, "qrecipe 1\n")
    assert edges.of(run, "qrecipe 1\nlet a = 1\n")


def test_planted_fault_is_found_shrunk_and_kept(tmp_path, monkeypatch, capsys) -> None:
    def fragile(source: Source) -> None:
        if "BAD" in source.text:
            raise Violated("planted")

    monkeypatch.setattr(examining, "fix", fragile)
    monkeypatch.setattr(fuzz, "BUILD", tmp_path)
    monkeypatch.setattr(fuzz, "_seeds", lambda: ["qrecipe 1\nlet a = 1\n# a BAD thing\n"])
    assert fuzz.Fuzzer(Random(1)).run(0.0) == 1
    (kept,) = (tmp_path / "findings").glob("*.qrecipe")
    assert kept.read_text() == "BAD"
    assert "FINDING Violated" in capsys.readouterr().out

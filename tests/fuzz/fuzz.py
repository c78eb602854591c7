"""``make fuzz MINUTES=10``: look for a text that breaks the front end.

Texts that run through new lines are kept in ``build/fuzz/corpus``, so that a second call goes on
where the first one stopped. Every finding is made small, printed and kept in
``build/fuzz/findings``; the exit status is 1 if there is one.
"""

import argparse
import sys
import time
import traceback
from hashlib import sha256
from pathlib import Path
from random import Random

from tests.fuzz.edges import Edges
from tests.fuzz.examine import SECONDS, examine
from tests.fuzz.mutate import derived, mutated

ROOT = Path(__file__).parents[2]
SEEDS = (
    ROOT / "tests" / "fuzz" / "corpus",
    ROOT / "tests" / "golden" / "ok",
    ROOT / "tests" / "golden" / "broken",
    ROOT / "recipes",
)
BUILD = ROOT / "build" / "fuzz"
TRACED = 12 * SECONDS
"""Tracing makes everything slower; a text over the limit is timed again without."""
TRACE_EVERY = 4
"""Tracing takes five times as long: as much time goes to each way."""
SHRINKING = 20.0


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--seed", type=int, default=0, help="0: from the clock")
    given = options.parse_args()
    seed = given.seed or int(time.time())
    print(f"seed {seed}, {given.minutes:g} minutes", flush=True)
    findings = Fuzzer(Random(seed)).run(60 * given.minutes)
    return 1 if findings else 0


class Fuzzer:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._edges = Edges()
        self._corpus: list[str] = []
        self._known: set[str] = set()
        self._runs = 0

    def run(self, seconds: float) -> int:
        """Number of different findings."""
        end = time.monotonic() + seconds
        for text in _seeds():
            self._try(text, keep=True)
            if time.monotonic() > end:
                break
        told = time.monotonic()
        while time.monotonic() < end:
            self._try(self._next(), keep=False)
            if time.monotonic() - told > 30:
                told = time.monotonic()
                self._tell()
        self._tell()
        return len(self._known)

    def _next(self) -> str:
        if self._random.random() < 0.05:
            return "qrecipe 1\n" + derived("start", self._random).partition("\n")[2]
        # what was found last has been tried least
        recent = self._corpus[-50:] if self._random.random() < 0.5 else self._corpus
        return mutated(self._random.choice(recent), self._corpus, self._random)

    def _try(self, text: str, *, keep: bool) -> None:
        self._runs += 1
        new = False
        try:
            if keep or self._runs % TRACE_EVERY == 0:
                new = bool(self._edges.of(lambda one: examine(one, TRACED), text))
            else:
                examine(text)
        except Exception:
            self._examine_alone(text)
            return
        if keep or new:
            self._corpus.append(text)
        if new and not keep:
            _write(BUILD / "corpus", text)

    def _examine_alone(self, text: str) -> None:
        """A failure under tracing counts if it is one without."""
        problem = failure(text)
        if problem is None or problem in self._known:
            return
        self._known.add(problem)
        small = shrunk(text, problem)
        path = _write(BUILD / "findings", small)
        print(f"\nFINDING {problem}\n{path}\n{small!r}", flush=True)
        try:
            examine(small)
        except Exception:
            traceback.print_exc(limit=-6)

    def _tell(self) -> None:
        print(
            f"{self._runs} texts, {len(self._corpus)} kept, {len(self._edges.seen)} edges, "
            f"{len(self._known)} findings",
            flush=True,
        )


def failure(text: str) -> str | None:
    """Kind and place of what goes wrong: two texts with the same one are one finding."""
    try:
        examine(text)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "qcompile" in Path(f.filename).parts] or frames
        return f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return None


def shrunk(text: str, problem: str, seconds: float = SHRINKING) -> str:
    """Leave out pieces, ever smaller ones, as long as the same problem remains."""
    end = time.monotonic() + seconds
    size = len(text) // 2
    while size:
        at = 0
        while at < len(text) and time.monotonic() < end:
            shorter = text[:at] + text[at + size :]
            if failure(shorter) == problem:
                text = shorter
            else:
                at += size
        size //= 2
    return text


def _seeds() -> list[str]:
    folders = (*SEEDS, BUILD / "corpus")
    paths = [path for folder in folders for path in sorted(folder.glob("*.qrecipe"))]
    return [path.read_bytes().decode(errors="surrogatepass") for path in paths]


def _write(folder: Path, text: str) -> Path:
    data = text.encode(errors="surrogatepass")
    path = folder / f"{sha256(data).hexdigest()[:16]}.qrecipe"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


if __name__ == "__main__":
    sys.exit(main())

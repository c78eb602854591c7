"""``make bench-start``: how long ``qcompile check`` takes, and how soon it refuses hostile input.

Every figure is the median over whole processes, from start to exit. Limits are those of the
project: 0.4 s warm, 1 s cold, 1 s for every refusal; they are printed, never asserted.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path

from qcompile.syntax.limits import MAX_RULES

OUTPUT = Path(__file__).parents[2] / "build" / "bench" / "start.json"
RECIPE = Path(__file__).parents[2] / "recipes" / "resnet20-w4a8.qrecipe"
RUNS = 7
WARM, COLD, REFUSAL = 0.4, 1.0, 1.0
HEAD = "qrecipe 1\nscheme w8 { weight int8 }\n"
ORDINARY = HEAD + "policy main {\n  use w8 for conv or linear\n  skip first(conv)\n}\n"
SIZES = (500, 1_000, 2_000, 5_000, MAX_RULES)


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    seconds: float
    """Median."""
    fastest: float
    slowest: float
    limit: float | None
    codes: tuple[str, ...]
    """What ``check`` said."""

    @property
    def line(self) -> str:
        verdict = "" if self.limit is None else f"limit {self.limit:g} s"
        if self.limit is not None and self.seconds >= self.limit:
            verdict += "  EXCEEDED"
        said = " ".join(self.codes) or "ok"
        return f"{self.name:<28} {self.seconds:7.3f} s  {said:<8} {verdict}".rstrip()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = list(_rows(Path(folder)))
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    document = {"machine": machine | {"cores": os.cpu_count()}, "rows": [asdict(r) for r in rows]}
    OUTPUT.write_text(json.dumps(document, indent=2) + "\n")
    print(f"growth from {SIZES[0]} to {SIZES[-1]} rules: {_exponent(rows):.2f} (1 is linear)")


def _rows(folder: Path) -> Iterator[Row]:
    warm = folder / "warm"
    yield _row("python alone", [sys.executable, "-c", "pass"], warm, None)
    path = _written(folder / "ordinary.qrecipe", ORDINARY)
    _run(_check(path), warm)
    yield _row("check, warm", _check(path), warm, WARM)
    yield _row("check, a shipped recipe", _check(RECIPE), warm, WARM)
    yield _row("check, cold", _check(path), None, COLD)
    for rules in SIZES:
        path = _written(folder / f"{rules}.qrecipe", _many(rules))
        yield _row(f"{rules} rules", _check(path), warm, None, 3 if rules > 2_000 else RUNS)
    for name, make in HOSTILE.items():
        path = folder / f"{name.replace(' ', '_')}.qrecipe"
        make(path)
        yield _row(name, _check(path), warm, REFUSAL)


def _row(
    name: str, command: list[str], cache: Path | None, limit: float | None, runs: int = RUNS
) -> Row:
    times: list[float] = []
    said = ""
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as empty:
            start = time.perf_counter()
            said = _run(command, cache or Path(empty))
            times.append(time.perf_counter() - start)
    codes = tuple(
        sorted({item["code"] for item in json.loads(said or "{}").get("diagnostics", [])})
    )
    row = Row(name, statistics.median(times), min(times), max(times), limit, codes)
    print(row.line, flush=True)
    return row


def _run(command: list[str], cache: Path) -> str:
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled once
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    return done.stdout


def _check(path: Path) -> list[str]:
    return [str(Path(sys.executable).with_name("qcompile")), "check", "--json", str(path)]


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _many(rules: int) -> str:
    lines = [f'  use w8 for "layer{n}.conv" or linear\n' for n in range(rules)]
    return f"{HEAD}policy main {{\n{''.join(lines)}}}\n"


def _exponent(rows: list[Row]) -> float:
    """Slope of time over rules on logarithmic axes, start-up taken off."""
    seconds = {row.name: row.seconds for row in rows}
    start = seconds["check, warm"]
    small, large = (max(1e-3, seconds[f"{n} rules"] - start) for n in (SIZES[0], SIZES[-1]))
    return log(large / small) / log(SIZES[-1] / SIZES[0])


def _expression(text: str) -> Callable[[Path], object]:
    return lambda path: _written(path, f"{HEAD}select a = {text}\n")


HOSTILE: dict[str, Callable[[Path], object]] = {
    "10 MB of rules": lambda path: _written(path, _many(240_000)),
    "100,000 parentheses": _expression("(" * 100_000 + "conv" + ")" * 100_000),
    "50,000 not": _expression("not " * 50_000 + "conv"),
    "NUL bytes": lambda path: path.write_bytes(b"qrecipe 1\n\x00" * 1_000),
    "UTF-16": lambda path: path.write_bytes(ORDINARY.encode("utf-16")),
    "pipe": lambda path: os.mkfifo(path),
    "regular expression (a+)+": _expression('re"(a+)+$"'),
    "1 MiB of direction marks": lambda path: _written(path, HEAD + "# \u202e\n" * 150_000),
}


if __name__ == "__main__":
    main()

"""Results of a benchmark, stored by what they depend on, so that a second call continues.

A cell is a JSON document: everything that decides the result. Its hash names the file that holds
the result. Loads no torch.
"""

import ast
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeAlias, cast

from qcompile.store.atomic import write_file
from qcompile.store.canonical import canonical_json, sha256_hex
from qcompile.store.disk import Disk

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Document: TypeAlias = Mapping[str, Json]

KEY_LENGTH = 24


@dataclass(frozen=True, slots=True)
class Store:
    """One file a cell in ``folder``: the cell, and its result."""

    folder: Path

    def find(self, cell: Document) -> Document | None:
        file = self._file(cell)
        if not file.is_file():
            return None
        stored = cast("dict[str, Document]", json.loads(file.read_bytes()))
        return stored["result"]

    def save(self, cell: Document, result: Document) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        problems = write_file(
            Disk(), self._file(cell), canonical_json({"cell": cell, "result": result})
        )
        if problems:
            raise OSError("; ".join(problem.message for problem in problems))

    def _file(self, cell: Document) -> Path:
        return self.folder / f"{key(cell)}.json"


def key(cell: Document) -> str:
    return sha256_hex(canonical_json(cell))[:KEY_LENGTH]


def code_version(root: Path, sources: Sequence[str]) -> str:
    """Hash over the syntax of Python files and folders below ``root``: comments do not count."""
    files = sorted(file for source in sources for file in _modules(root / source))
    shapes = [
        [str(file.relative_to(root)), ast.dump(ast.parse(file.read_text()))] for file in files
    ]
    return sha256_hex(canonical_json(shapes))


@cache
def code_of_process(root: Path, sources: tuple[str, ...]) -> str:
    """``code_version`` of what this process has imported: once, however many cells ask."""
    return code_version(root, sources)


def _modules(place: Path) -> list[Path]:
    return [place] if place.is_file() else list(place.rglob("*.py"))


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds of wall time for one call of a benchmark; ``None``: as long as it takes."""

    seconds: float | None
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float | None:
        if self.seconds is None:
            return None
        return max(self.seconds - (time.monotonic() - self.started), 0.0)

    @property
    def is_spent(self) -> bool:
        return self.left is not None and self.left <= 0

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

Write = Callable[[str, str], Path]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project; the marker keeps whatever lies above it out."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "qcompile.toml").write_text("")
    return root


@pytest.fixture
def write(project: Path) -> Write:
    def write_file(name: str, text: str) -> Path:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return path

    return write_file

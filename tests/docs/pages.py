"""The pages of the documentation: their fenced blocks, and the files that these stand for.

A block with ``file=NAME`` is that file of the page's project; a later block of the same name
replaces it. ``codes=QR201,QR404`` on a recipe are the diagnostics that it gets, and no others.
"""

from collections.abc import Iterator
from pathlib import Path

from tests.specs.literate import Block, read

ROOT = Path(__file__).parents[2]
ERRORS = ROOT / "docs" / "errors"
"""Pages with a layout and a test of their own."""


def pages() -> list[Path]:
    written = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", *(page for page in written if ERRORS not in page.parents)]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def fenced(language: str) -> Iterator[tuple[Path, Block]]:
    for page in pages():
        yield from ((page, block) for block in read(page) if block.language == language)


def write_file(block: Block, folder: Path) -> None:
    """Write the file that ``block`` stands for, if it does."""
    name = block.options.get("file")
    if name is not None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")


def project_before(page: Path, block: Block, folder: Path) -> None:
    """The page's files as they are where ``block`` stands."""
    for earlier in read(page):
        if earlier.line >= block.line:
            return
        write_file(earlier, folder)

"""Tables in Markdown, cut to what a comment on a pull request may hold."""

from collections.abc import Iterable, Sequence

from qcompile.diagnostics.quantities import several

LIMIT = 60_000
"""Bytes; a comment on GitHub holds 65,535 characters."""
LEAST = 500


def cut(
    head: Sequence[str], columns: Sequence[str], body: Iterable[Sequence[str]], limit: int
) -> str:
    """``head``, then a table of as many rows as fit into ``limit`` bytes, then what is left out.

    What does not fit is left out in whole rows; ``head`` itself is cut only where even it is too
    long, so that the result never exceeds ``limit``.
    """
    lines = [table_row(cells) for cells in body]
    text = "\n".join([*head, *(columns if lines else ()), *lines]) + "\n"
    if _bytes(text) <= limit:
        return text
    start = "\n".join([*head, *columns]) + "\n"
    room = limit - _bytes(start) - _bytes(_left_out(len(lines)))
    if room < 0:
        return _cut_text("\n".join(head), limit)
    kept = 0
    while kept < len(lines) and room >= _bytes(lines[kept]) + 1:
        room -= _bytes(lines[kept]) + 1
        kept += 1
    shown = "".join(f"{line}\n" for line in lines[:kept])
    return start + shown + _left_out(len(lines) - kept)


def table_head(headings: Sequence[str], right: Iterable[int] = ()) -> list[str]:
    ruler = ["--:" if place in set(right) else "---" for place in range(len(headings))]
    return [table_row(headings), f"|{'|'.join(ruler)}|"]


def table_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(inline(cell) for cell in cells)} |"


def inline(text: str) -> str:
    """``text`` that stays on one line, means nothing to Markdown, and names nobody.

    Indents stay visible.
    """
    bare = text.lstrip(" ")
    indent = "&nbsp;" * (len(text) - len(bare))
    marked = "".join(f"\\{char}" if char in r"\`*_[]<|~" else char for char in bare)
    plain = marked.replace("&", "&amp;").replace("@", "@&#8203;")  # else `@team` is sent a mail
    return indent + " ".join(plain.split())


def _left_out(count: int) -> str:
    rows = several(count, "row")
    return f"\n{rows} left out: `--limit` of the command says how many bytes there may be\n"


def _cut_text(text: str, limit: int) -> str:
    ending = "...\n"
    return text.encode()[: limit - len(ending)].decode(errors="ignore") + ending


def _bytes(text: str) -> int:
    return len(text.encode())

"""The block graph of a plan as SVG, drawn by ourselves, or as DOT for other programs."""

from collections.abc import Sequence
from dataclasses import dataclass

from qcompile.cli.layout import HEIGHT, MARGIN, WIDTH, layout
from qcompile.diagnostics.quantities import human_bytes
from qcompile.driver.block_graph import BlockGraph, GraphBox
from qcompile.report.colours import DARK, bits_colour
from qcompile.report.templates import template

BORDER = "#888888"
SHARED = "#d55e00"
"""Border of boxes that hold a tensor which others hold too."""
SCALES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#f0e442")
"""Of classes of values on one grid (Okabe and Ito); a number in the mark tells them apart too."""
LONGEST_LABEL = 30
LEGEND_ROW = 20
MARK = 13
"""Of a scale class, in pixels."""


@dataclass(frozen=True, slots=True)
class _Segment:
    x: int
    width: int
    colour: str


@dataclass(frozen=True, slots=True)
class _Mark:
    x: int
    colour: str
    text: str


@dataclass(frozen=True, slots=True)
class _Drawn:
    name: str
    label: str
    lines: tuple[str, ...]
    x: int
    y: int
    width: int
    height: int
    border: str
    is_end: bool
    is_shared: bool
    segments: tuple[_Segment, ...]
    marks: tuple[_Mark, ...]


@dataclass(frozen=True, slots=True)
class _Key:
    x: int
    y: int
    colour: str
    text: str


def graph_svg(graph: BlockGraph, title: str) -> str:
    """One self-contained file without scripts; every name in it is escaped."""
    placed = layout(len(graph.boxes), graph.edges)
    legend = _legend(graph.boxes, placed.width, placed.height)
    bottom = max((key.y for key in legend), default=placed.height) + LEGEND_ROW
    return template("qcompile.cli", "block_graph.svg.j2").render(
        title=title,
        width=placed.width,
        height=bottom,
        paths=placed.paths,
        boxes=[_drawn(b, at) for b, at in zip(graph.boxes, placed.corners, strict=True)],
        legend=legend,
    )


def graph_dot(graph: BlockGraph, title: str) -> str:
    lines = [f"digraph {_quoted(title)} {{", "  node [shape=box, style=filled];"]
    for place, box in enumerate(graph.boxes):
        scales = [f"scale {', '.join(str(n + 1) for n in box.scales)}"] if box.scales else []
        text = _quoted("\n".join([box.name, *_lines(box), *scales]))
        few = min((bits for bits in box.weight_bits if bits is not None), default=None)
        fill = bits_colour(few)
        border = f', color="{_border(box)}", penwidth=3' if box.sharing else ""
        lines.append(f'  n{place} [label={text}, fillcolor="{fill}"{border}{_ink(few)}];')
    lines += [f"  n{source} -> n{target};" for source, target in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _drawn(box: GraphBox, corner: tuple[int, int]) -> _Drawn:
    return _Drawn(
        name=box.name,
        label=_shortened(box.name),
        lines=_lines(box),
        x=corner[0],
        y=corner[1],
        width=WIDTH,
        height=HEIGHT,
        border=_border(box),
        is_end=box.is_end,
        is_shared=bool(box.sharing),
        segments=_segments(box.weight_bits),
        marks=tuple(
            _Mark(4 + place * (MARK + 2), _scale_colour(number), str(number + 1))
            for place, number in enumerate(box.scales)
        ),
    )


def _lines(box: GraphBox) -> tuple[str, ...]:
    if box.is_end:
        return ()
    schemes = ", ".join(f"{count} x {name}" for name, count in box.schemes) or "float"
    return (
        _shortened(schemes),
        f"{human_bytes(box.bytes_before)} -> {human_bytes(box.bytes_after)}",
    )


def _segments(bits: Sequence[int | None]) -> tuple[_Segment, ...]:
    """A band along the lower edge with an equal share for every weight."""
    inner = WIDTH - 10
    edges = [5 + inner * place // max(len(bits), 1) for place in range(len(bits) + 1)]
    return tuple(
        _Segment(edges[place], max(edges[place + 1] - edges[place] - 1, 1), bits_colour(one))
        for place, one in enumerate(bits)
    )


def _legend(boxes: Sequence[GraphBox], width: int, top: int) -> list[_Key]:
    """What the colours mean, in as many rows as it takes."""
    present = {bits for box in boxes for bits in box.weight_bits}
    ordered = sorted(present, key=lambda bits: 99 if bits is None else bits)
    texts = [("float" if bits is None else f"{bits} bits", bits_colour(bits)) for bits in ordered]
    if any(box.sharing for box in boxes):
        texts.append(("border: shared tensor", SHARED))
    for number in sorted({number for box in boxes for number in box.scales}):
        texts.append((f"{number + 1}: one scale", _scale_colour(number)))
    keys: list[_Key] = []
    x, y = MARGIN, top
    for text, colour in texts:
        room = 30 + 7 * len(text)
        if x > MARGIN and x + room > width:
            x, y = MARGIN, y + LEGEND_ROW
        keys.append(_Key(x, y, colour, text))
        x += room
    return keys


def _border(box: GraphBox) -> str:
    return SHARED if box.sharing else BORDER


def _ink(bits: int | None) -> str:
    """Text on the dark half of the colours is white."""
    return "" if bits is None or bits > DARK else ', fontcolor="#ffffff"'


def _scale_colour(number: int) -> str:
    return SCALES[number % len(SCALES)]


def _shortened(text: str) -> str:
    """A layer is known by the end of its path."""
    return text if len(text) <= LONGEST_LABEL else "..." + text[3 - LONGEST_LABEL :]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'

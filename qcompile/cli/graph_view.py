"""The block graph of a plan as SVG, drawn by ourselves, or as DOT for other programs."""

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from qcompile.cli.layout import HEIGHT, MARGIN, WIDTH, layout
from qcompile.cli.quantities import human_bytes
from qcompile.driver.block_graph import BlockGraph, GraphBox

COLOURS = {
    2: "#d73027",
    3: "#f46d43",
    4: "#fdae61",
    5: "#fee08b",
    6: "#d9ef8b",
    7: "#a6d96a",
    8: "#1a9850",
}
"""Of a weight, by its bits: red is few."""
FLOAT_COLOUR = "#bdbdbd"
BORDER = "#888888"
SHARED = ("#1f78b4", "#6a3d9a", "#b15928", "#e31a8b", "#008080")
"""Borders of boxes that hold the same tensor; a sixth class begins again."""
LONGEST_LABEL = 30
LEGEND_ROOM = 24


@dataclass(frozen=True, slots=True)
class _Segment:
    x: int
    width: int
    colour: str


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


@dataclass(frozen=True, slots=True)
class _Key:
    x: int
    colour: str
    text: str


def graph_svg(graph: BlockGraph, title: str) -> str:
    """One self-contained file without scripts; every name in it is escaped."""
    environment = Environment(
        loader=PackageLoader("qcompile.cli"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    placed = layout(len(graph.boxes), graph.edges)
    return environment.get_template("block_graph.svg.j2").render(
        title=title,
        width=placed.width,
        height=placed.height + LEGEND_ROOM,
        paths=placed.paths,
        boxes=[_drawn(b, at) for b, at in zip(graph.boxes, placed.corners, strict=True)],
        legend=_legend(graph.boxes),
    )


def graph_dot(graph: BlockGraph, title: str) -> str:
    lines = [f"digraph {_quoted(title)} {{", "  node [shape=box, style=filled];"]
    for place, box in enumerate(graph.boxes):
        text = _quoted("\n".join([box.name, *_lines(box)]))
        few = min((bits for bits in box.weight_bits if bits is not None), default=None)
        border = f', color="{_border(box)}", penwidth=3' if box.sharing else ""
        lines.append(f'  n{place} [label={text}, fillcolor="{_colour(few)}"{border}];')
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
        _Segment(edges[place], max(edges[place + 1] - edges[place] - 1, 1), _colour(one))
        for place, one in enumerate(bits)
    )


def _legend(boxes: Sequence[GraphBox]) -> list[_Key]:
    present = {bits for box in boxes for bits in box.weight_bits}
    ordered = sorted(present, key=lambda bits: 99 if bits is None else bits)
    texts = [("float" if bits is None else f"{bits} bits", _colour(bits)) for bits in ordered]
    if any(box.sharing for box in boxes):
        texts.append(("coloured border: shared tensor", SHARED[0]))
    return [_Key(MARGIN + place * 66, colour, text) for place, (text, colour) in enumerate(texts)]


def _colour(bits: int | None) -> str:
    return FLOAT_COLOUR if bits is None else COLOURS.get(bits, COLOURS[8])


def _border(box: GraphBox) -> str:
    return SHARED[box.sharing[0] % len(SHARED)] if box.sharing else BORDER


def _shortened(text: str) -> str:
    """A layer is known by the end of its path."""
    return text if len(text) <= LONGEST_LABEL else "..." + text[3 - LONGEST_LABEL :]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'

"""Where the boxes of a graph go: in layers by longest path, each layer ordered by its neighbours.

Sugiyama's method without its crossing search: one barycentre sweep down is enough for networks,
whose block graphs are nearly chains.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 220, 58
GAP_X, GAP_Y, MARGIN = 40, 44, 24
BOW = 70
"""How far an edge that passes other layers swings out, in pixels."""

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Layout:
    """``corners``: upper left of each box; ``paths``: an SVG path for each edge."""

    corners: tuple[tuple[int, int], ...]
    paths: tuple[str, ...]
    width: int
    height: int


def layout(count: int, edges: Sequence[Edge]) -> Layout:
    """Edges must go from a lower to a higher number."""
    layers = _layers(count, edges)
    columns = _columns(layers, edges)
    across = max(columns, default=0) + 1
    deep = max(layers, default=0) + 1
    inner = across * WIDTH + (across - 1) * GAP_X
    sizes: dict[int, int] = defaultdict(int)
    for layer in layers:
        sizes[layer] += 1
    corners = tuple(
        (
            MARGIN + (inner - sizes[y] * WIDTH - (sizes[y] - 1) * GAP_X) // 2 + x * (WIDTH + GAP_X),
            MARGIN + y * (HEIGHT + GAP_Y),
        )
        for x, y in zip(columns, layers, strict=True)
    )
    paths = tuple(_path(corners[a], corners[b], layers[b] - layers[a]) for a, b in edges)
    room = BOW + WIDTH // 2 if any(layers[b] - layers[a] > 1 for a, b in edges) else 0
    return Layout(
        corners,
        paths,
        width=inner + 2 * MARGIN + room,
        height=deep * HEIGHT + (deep - 1) * GAP_Y + 2 * MARGIN,
    )


def _layers(count: int, edges: Sequence[Edge]) -> list[int]:
    layers = [0] * count
    for source, target in sorted(edges):
        layers[target] = max(layers[target], layers[source] + 1)
    return layers


def _columns(layers: Sequence[int], edges: Sequence[Edge]) -> list[int]:
    """Place in its layer of each box, by the mean place of what it reads."""
    sources: dict[int, list[int]] = defaultdict(list)
    for source, target in edges:
        sources[target].append(source)
    columns = [0] * len(layers)
    members: dict[int, list[int]] = defaultdict(list)
    for box, layer in enumerate(layers):
        members[layer].append(box)

    def middle(box: int) -> float:
        above = sources[box]
        return sum(columns[source] for source in above) / len(above) if above else 0.0

    for layer in sorted(members):
        for place, box in enumerate(sorted(members[layer], key=lambda box: (middle(box), box))):
            columns[box] = place
    return columns


def _path(source: tuple[int, int], target: tuple[int, int], span: int) -> str:
    (x1, y1), (x2, y2) = source, target
    x1, y1, x2 = x1 + WIDTH // 2, y1 + HEIGHT, x2 + WIDTH // 2
    if span == 1:
        half = (y1 + y2) // 2
        return f"M{x1},{y1} C{x1},{half} {x2},{half} {x2},{y2}"
    # a long edge leaves and enters beside the middle, and swings around the boxes between
    out = max(x1, x2) + WIDTH // 2 + BOW
    side = WIDTH // 4
    return f"M{x1 + side},{y1} C{out},{y1 + GAP_Y} {out},{y2 - GAP_Y} {x2 + side},{y2}"

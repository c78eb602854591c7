"""Whether padding is where it seems to be: tried with other padding in the same samples.

What a model makes of its samples' own positions does not depend on what they are padded with, if
it minds its mask. So a value that stays as it is has no padding to be left out; and what is kept of
one that changes has to stay as it is, or the padding is elsewhere.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from qcompile.capture.positions import Layout
from qcompile.passes.padding import Padding
from qcompile.passes.sweep_values import Value, floats_in

SAMPLES = 4
CLOSE = 1e-4
"""Of the largest number: last bits may move."""


@dataclass(frozen=True, slots=True)
class Probed:
    padded: frozenset[str]
    """Nodes whose values change with the padding."""
    misplaced: frozenset[str]
    """Those of them of which not all that changes is where it seems to be."""


@torch.no_grad()
def probe(
    module: fx.GraphModule,
    batch: Mapping[str, Tensor],
    mask: Tensor,
    layouts: Mapping[str, Layout],
    inputs: Collection[str],
    samples: int = SAMPLES,
) -> Probed:
    """``inputs`` are placeholders ``[samples, positions, ...]``, the mask not among them.

    Tried on as many ``samples``, those with the most padding.
    """
    rows = mask.sum(1).argsort()[:samples]
    padding = Padding((mask[rows],), layouts)
    given = {name: _rows(value, rows, len(mask)) for name, value in batch.items()}
    other = {n: _padded(v, mask[rows]) if n in inputs else v for n, v in given.items()}
    padded: set[str] = set()
    misplaced: set[str] = set()
    for name, values in _side_by_side(module, given, other):
        floats = (floats_in([value]) for value in values)
        pairs = list(zip(*floats, strict=True))
        if all(_is_close(a, b) for a, b in pairs):
            continue
        padded.add(name)
        kept = ((padding.kept(a, name, 0), padding.kept(b, name, 0)) for a, b in pairs)
        if name not in layouts or not all(_is_close(a, b) for a, b in kept):
            misplaced.add(name)
    return Probed(frozenset(padded), frozenset(misplaced))


def _rows(value: Tensor, rows: Tensor, samples: int) -> Tensor:
    return value[rows] if value.dim() and len(value) == samples else value


def _padded(value: Tensor, own: Tensor) -> Tensor:
    """With other padding: positions of the sample's own, from the last one backwards."""
    changed = value.clone()
    for sample, mask in enumerate(own):
        there = mask.nonzero().flatten().flip(0)
        holes = (~mask).nonzero().flatten()
        places = there[torch.arange(len(holes)) % len(there)]
        changed[sample, holes] = value[sample, places]
    return changed


def _side_by_side(
    module: fx.GraphModule, *batches: Mapping[str, Tensor]
) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """What each node makes of each batch; no value is held beyond its last use."""
    runs = [fx.Interpreter(module) for _ in batches]
    for run, batch in zip(runs, batches, strict=True):
        nodes = module.graph.find_nodes(op="placeholder")
        given = (batch.get(n.name, n.args[0] if n.args else None) for n in nodes)
        run.args_iter = iter([v.clone() if isinstance(v, Tensor) else v for v in given])
    for node in module.graph.nodes:
        if node.op == "output":
            return
        for run in runs:
            run.env[node] = run.run_node(node)
        if node.op != "get_attr":
            yield node.name, tuple(run.env[node] for run in runs)
        for run in runs:
            for used in run.user_to_last_uses.get(node, ()):
                del run.env[used]


def _is_close(one: Tensor, other: Tensor) -> bool:
    same = (one == other) | (one.isnan() & other.isnan())
    if bool(same.all()):
        return True
    scale = one.abs().nan_to_num(0, 0, 0).amax()
    return bool(((one - other).abs() <= CLOSE * scale).logical_or(same).all())

"""Measure one row of the table of captured models in a process of its own.

Reads ``{"model": NAME}`` as JSON from standard input, writes its figures to standard output.
Seconds are of processor time; the first capture of a process pays for what is built on first use.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tests.bench.captured_models import CASES

# isort: split
import timm
import torch
import transformers
from torch import Tensor, nn

from qcompile.capture.captured import Captured
from qcompile.capture.node_meta import facts
from qcompile.capture.specialisation import Specialisation
from qcompile.diagnostics.source import Source
from qcompile.driver.bind import bind_seen, look
from qcompile.driver.front import check_source
from tests.bench.cells import Json
from tests.capture.traced_models import Case, tensors

RECIPE = """qrecipe 1
scheme w8 { weight int8 }
policy main {
  optional use w8 for (linear or conv) and not shared
}
"""
EXAMPLE = (2, 7)
NEW_SIZES = ((3, 11), (1, 4), (5, 16))
"""Rows and lengths other than those of the example."""
TOLERANCE = 1e-5
"""Of the largest number: eager and graph may sum in another order where attention is fused."""

T = TypeVar("T")


def main() -> None:
    torch.set_num_threads(1)
    name: str = json.load(sys.stdin)["model"]
    json.dump({"model": name, **figures(CASES[name])}, sys.stdout)


def figures(case: Case) -> dict[str, Json]:
    recipe = check_source(Source("bench.qrecipe", RECIPE)).recipe
    assert recipe is not None
    model, example = case.model(), case.batch(*EXAMPLE)
    seen, capture_s = timed(lambda: look(recipe, model, example, preview=True))
    bound, analysis_s = timed(lambda: bind_seen(recipe, seen, preview=True))
    agreement = [agrees(case, model, seen.captured, size) for size in NEW_SIZES]
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "nodes": len(seen.captured.module.graph.nodes),
        "sites": len(seen.sites),
        "blocks": sum(unit.is_block for unit in bound.units),
        "capture_s": round(capture_s, 2),
        "analysis_s": round(analysis_s, 2),
        "values_needed": seen.captured.method == "real",
        "free": list(free_sizes(seen.captured)),
        "specialisations": [said(item) for item in seen.captured.specialisations],
        "equal": all(agreement),
        "compared_at": [list(size) for size in NEW_SIZES],
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "versions": [torch.__version__, transformers.__version__, timm.__version__],
    }


def timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.process_time()
    return call(), time.process_time() - started


def agrees(case: Case, model: nn.Module, captured: Captured, size: Sequence[int]) -> bool:
    """Whether the graph does what the model does, on inputs that neither has seen."""
    rows, length = size
    inputs = case.batch(rows, length, seed=rows)
    with torch.no_grad():
        wanted = tensors(model(**inputs))
        try:
            made = tensors(captured.module(**inputs))
        except (RuntimeError, IndexError):  # a graph of one size only
            return False
    return len(made) == len(wanted) > 0 and all(map(close, made, wanted))


def close(made: Tensor, wanted: Tensor) -> bool:
    if made.shape != wanted.shape:
        return False
    return bool((made - wanted).abs().max() <= TOLERANCE * wanted.abs().max())


def free_sizes(captured: Captured) -> list[str]:
    """``x.shape[0]`` for each axis of an input that may have any length."""
    inputs = captured.module.graph.find_nodes(op="placeholder")
    named = [
        f"{node.target}.shape[{axis}]"
        for node in inputs
        for axis, size in enumerate(facts(node).shape or ())
        if isinstance(size, str)
    ]
    fixed = [item.what for item in captured.specialisations]
    return [name for name in named if not any(f"{name} == " in what for what in fixed)]


def said(item: Specialisation) -> str:
    file, _, line = (item.where or "").rpartition(":")
    place = f" at {'/'.join(Path(file).parts[-2:])}:{line}" if line else ""
    kind = " (information)" if item.above_one else ""
    return f"{item.what}{place} in {item.path or 'the model itself'}{kind}"


if __name__ == "__main__":
    main()

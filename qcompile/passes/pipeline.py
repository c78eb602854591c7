"""Run passes one after another; between two of them the graph must be sound."""

from collections.abc import Sequence

from torch import fx

from qcompile.passes.base import Pass, PassResult
from qcompile.passes.fold_batch_norm import FoldBatchNorm
from qcompile.passes.remove_dropout import RemoveDropout
from qcompile.passes.rotate import Rotate
from qcompile.passes.untie import Untie

PASSES: tuple[type[Pass], ...] = (Untie, RemoveDropout, FoldBatchNorm, Rotate)
"""Every pass, in the order in which a plan applies them."""


def run_passes(module: fx.GraphModule, passes: Sequence[Pass]) -> PassResult:
    changed = False
    for item in passes:
        result = item.run(module)
        module = result.module
        module.graph.lint()
        module.recompile()
        changed = changed or result.changed
    return PassResult(module, changed)

"""What a run does to the float model before it quantizes anything; the function stays as it is."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx

from qcompile.passes.balance import balanced
from qcompile.passes.padding import NO_PADDING, Padding
from qcompile.passes.rescale import RescaledModel, rescaled
from qcompile.policy.core import SitePlan, TransformPlan


def prepare(
    module: fx.GraphModule,
    transforms: Sequence[TransformPlan],
    sites: Mapping[str, SitePlan],
    batches: Sequence[Mapping[str, Tensor]],
    device: torch.device,
    padding: Padding = NO_PADDING,
) -> tuple[RescaledModel, ...]:
    """Step by step; the last one's module is the one to be quantized, ``module`` without any.

    ``sites`` are by node name.
    """
    scaled = rescaled(module, transforms, sites, batches, device, padding)
    rewritten = frozenset(path for item in transforms for path in item.parameters)
    even = balanced(
        module if scaled is None else scaled.module, rewritten, batches, device, padding
    )
    return tuple(step for step in (scaled, even) if step is not None)

"""A model made ready for a target."""

from dataclasses import dataclass

import torch
from torch import fx

from qcompile.targets.report import LoweringReport


@dataclass(frozen=True, slots=True, eq=False)
class Lowering:
    module: fx.GraphModule
    report: LoweringReport
    device: torch.device
    """Where its weights are, and where it wants its inputs."""

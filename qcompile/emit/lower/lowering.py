"""A model made ready for a target."""

from dataclasses import dataclass

from torch import fx

from qcompile.targets.report import LoweringReport


@dataclass(frozen=True, slots=True, eq=False)
class Lowering:
    module: fx.GraphModule
    report: LoweringReport

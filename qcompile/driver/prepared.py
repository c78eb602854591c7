"""The float model as a run quantizes it: with the factors moved that its plan lists."""

from dataclasses import replace

import torch

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.plan import Planned
from qcompile.passes.padding import NO_PADDING
from qcompile.passes.prepare import prepare
from qcompile.passes.rescale import RescaledModel

TOLERANCE = 1e-4
"""Relative, on the outputs of one batch: float32 leaves some 1e-6 in a network of 50 layers."""


def prepared(planned: Planned, device: torch.device) -> tuple[Planned, tuple[RescaledModel, ...]]:
    """The same with the model to be quantized, and how it came to be, step by step.

    Raises ``CompileError`` (QR911).
    """
    core, graph = planned.plan.core, planned.bound.graph
    used = planned.calibration
    batches, padding = (used.batches, used.padding) if used else ((), NO_PADDING)
    sites = {site.node: site for site in core.sites}
    steps = prepare(graph, core.transforms, sites, batches, device, padding)
    for found in steps:
        if not found.difference <= max(TOLERANCE, 32 * found.resolution):
            raise CompileError([function_changed(found)])
        graph = found.module
    return replace(planned, bound=replace(planned.bound, graph=graph)), steps


def function_changed(found: RescaledModel) -> Diagnostic:
    """QR911."""
    worst = max(found.moved, key=lambda one: one.largest / one.least)
    return Diagnostic(
        Code.FUNCTION_CHANGED,
        f"the transforms changed the model's outputs by {found.difference:.1e} of their size",
        notes=(
            f"`prepare {worst.name}` scales `{worst.value}` by {worst.least:.1e} "
            f"to {worst.largest:.1e}",
        ),
        help=f"leave `prepare {worst.name}` out for the layers that read it",
    )

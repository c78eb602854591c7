"""The float model as a run quantizes it: with the factors moved that its plan lists."""

from dataclasses import replace

import torch
from pydantic import JsonValue

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.plan import Planned
from qcompile.passes.rescale import RescaledModel, rescaled

TOLERANCE = 1e-4
"""Relative, on the outputs of one batch: float32 leaves some 1e-6 in a network of 50 layers."""


def prepared(planned: Planned, device: torch.device) -> tuple[Planned, RescaledModel | None]:
    """The same with the rescaled model to be quantized. Raises ``CompileError`` (QR911)."""
    core, graph = planned.plan.core, planned.bound.graph
    batches = planned.calibration.batches if planned.calibration else ()
    sites = {site.node: site for site in core.sites}
    found = rescaled(graph, core.transforms, sites, batches, device)
    if found is None:
        return planned, None
    if not found.difference <= max(TOLERANCE, 32 * found.resolution):
        raise CompileError([function_changed(found)])
    return replace(planned, bound=replace(planned.bound, graph=found.module)), found


def prepared_values(found: RescaledModel | None) -> dict[str, JsonValue]:
    """For the report: nothing where nothing was moved."""
    if found is None:
        return {}
    rows: list[JsonValue] = [
        {
            "transform": one.name,
            "value": one.value,
            "least_factor": one.least,
            "largest_factor": one.largest,
        }
        for one in found.moved
    ]
    return {"prepared": {"output_difference": found.difference, "values": rows}}


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

"""What became of each layer on a target, as text and as JSON."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from qcompile.targets.report import LoweredLayer, LoweringReport


def lowering_text(report: LoweringReport) -> str:
    """Kernels in one line each, then every layer that has none, with the reason."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: LoweringReport) -> Iterator[str]:
    in_kernels = len(report.layers) - len(report.in_float)
    yield f"{report.target}: {in_kernels} of {len(report.layers)} planned layers in kernels"
    counts = Counter(_words(layer) for layer in report.layers if layer.kernel is not None)
    yield from (f"  {count:4} x {words}" for words, count in counts.items())
    yield from (f"  float: {layer.key}: {layer.because}" for layer in report.in_float)
    if report.checked:
        batches = " and ".join(map(str, report.checked))
        yield f"  {_of_outputs(report.difference)} (batches of {batches}, inputs unchanged)"
        worst = f"{report.layer_difference:.1e}"
        yield f"  no layer differs from the float reference by more than {worst}"
    elif report.target != "simulate":
        yield "  not compared with the simulation: no inputs could be made up for this model"


def _of_outputs(difference: float) -> str:
    if difference == 0:
        return "gives the outputs of the simulation, bit for bit"
    return f"differs from the simulation by {difference:.1e} of the output"


def _words(layer: LoweredLayer) -> str:
    taken = f" with {', '.join(layer.fused)}" if layer.fused else ""
    form = f" ({layer.form})" if layer.form else ""
    return f"{layer.kernel}{form}{taken}"


def lowering_json(report: LoweringReport) -> dict[str, Any]:
    return {
        "target": report.target,
        "layers": [asdict(layer) for layer in report.layers],
        "checked": list(report.checked),
        "difference": report.difference,
        "layer_difference": report.layer_difference,
    }

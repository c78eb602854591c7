"""A loaded artifact beside its simulation on labelled images: ``python -m tests.bench.lowered``.

For each of the artifacts that ``make bench-export`` leaves in ``build/bench/export``: difference
relative to the root mean square of the outputs, share of equal decisions, and accuracy of both. The
same of the simulation and itself with other last bits is beside it (``LastBits``): two computations
of a deep model with sums of floats cannot be expected to agree better.
Times are of the processor, one thread.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qcompile.driver.load import load, lowering
from qcompile.emit.lower.difference import relative
from qcompile.zoo import fashion_mnist
from tests.bench.export import BUILD, ZOO
from tests.bench.fashion import Labelled, test_eff, test_vit
from tests.bench.last_bits import LastBits

MODELS: dict[str, str | Callable[[], Labelled]] = {
    "resnet20-w8a8": ZOO,
    "resnet20-w4a8": ZOO,
    "vit_small-w8a8": ZOO,
    "vit_small-w4a8": ZOO,
    "efficientnet_lite0-w8a8": test_eff,
    "vit_s14-w8a8": test_vit,
}
TARGET = "x86-int8"
IMAGES, BATCH = 500, 50
HEADS = ("artifact", "images", "in kernels", "difference", "of a layer", "top-1 agreement")
BESIDE = (
    "accuracy",
    "of the simulation",
    "the simulation, other last bits: difference",
    "top-1 agreement",
)
TIMES = ("ms an image, simulation", "kernels")


def main(only: str) -> None:
    torch.set_num_threads(1)
    print(f"| {' | '.join((*HEADS, *BESIDE, *TIMES))} |\n|{'---|' * 12}")
    for name, source in MODELS.items():
        if only in name and (BUILD / name).is_dir():
            print(row(name, source), flush=True)


def row(name: str, source: str | Callable[[], Labelled]) -> str:
    images, labels = _images(source)
    lowered = lowering(BUILD / name, TARGET)
    simulation = load(BUILD / name, "simulate")
    last = images.to(memory_format=torch.channels_last)
    made, expected = _outputs(lowered.module, images)[0], _outputs(simulation, images)[0]
    (_, slow), (_, fast) = (_outputs(model, last) for model in (simulation, lowered.module))
    shaken = _outputs(LastBits(simulation).run, images)[0]
    report = lowered.report
    kernels = len(report.layers) - len(report.in_float)
    shown = (
        *(name, str(len(images)), f"{kernels} of {len(report.layers)}"),
        *(f"{relative(made, expected):.1e}", f"{report.layer_difference:.1e}"),
        *(_same(made, expected), _right(made, labels), _right(expected, labels)),
        *(f"{relative(shaken, expected):.1e}", _same(shaken, expected)),
        *(f"{1e3 * spent / len(images):.2f}" for spent in (slow, fast)),
    )
    return f"| {' | '.join(shown)} |"


def _images(source: str | Callable[[], Labelled]) -> tuple[Tensor, Tensor]:
    if isinstance(source, str):
        images, labels = fashion_mnist.test()
        return images[:IMAGES], labels[:IMAGES]
    labelled = source()
    pairs = [labelled[number] for number in range(min(IMAGES, len(labelled)))]
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])


def _outputs(model: Callable[[Tensor], Any], images: Tensor) -> tuple[Tensor, float]:
    """And the seconds of processor time."""
    start = time.process_time()
    with torch.no_grad():
        made = torch.cat([model(part) for part in images.split(BATCH)])
    return made, time.process_time() - start


def _same(made: Tensor, expected: Tensor) -> str:
    return f"{(made.argmax(1) == expected.argmax(1)).double().mean().item():.2%}"


def _right(made: Tensor, labels: Tensor) -> str:
    return f"{(made.argmax(1) == labels).double().mean().item():.2%}"


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")

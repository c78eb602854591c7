"""Measure ``Speeds``: a few seconds, on the code that a run executes, at sizes that runs have.

Time is the processor's in the thread that computes, and the least of several repetitions is taken:
other work on the machine only ever adds to one.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from qcompile.analysis.speeds import (
    PassSpeed,
    ProductSpeed,
    Rate,
    Solver,
    SolverSpeed,
    Speeds,
)
from qcompile.policy.number_format import IntFormat
from qcompile.policy.scheme import Mse, PerTensor, QuantSlot
from qcompile.quant.coordinate_descent import coordinate_descent
from qcompile.quant.fake_quantize import fake_quantize
from qcompile.quant.lsq import LearnedStep, drop_mask
from qcompile.quant.optq import optq
from qcompile.quant.quadratic import Quadratic, damped
from qcompile.quant.range_search import SHRINK_FACTORS, Rows, search
from qcompile.quant.rounding_gate import SoftRound

REPEATS = 5
WIDTHS = (16, 64, 256)
IMAGES, SIZE = 8, 28
"""Of the inputs of convolutions."""
ROWS = 1 << 12
ELEMENTS = 1 << 19
FEW = 1 << 6
SAMPLE = 1 << 17
"""What a range search looks at."""
SOLVED = ((16, 64), (64, 64), (64, 1024), (192, 64), (192, 512))
"""Inputs and rows of the layers on which the solvers are timed."""
COMMIT = 2e-2
"""Seconds that two synced files and a manifest take; what is in them is counted apart."""

_Run = Callable[[Tensor, Tensor], Tensor]


def measure_speeds(machine: Mapping[str, str]) -> Speeds:
    """Takes some seconds; ``machine`` is what the figures are said to hold for."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return Speeds(
            machine=dict(machine),
            products=tuple(_products(generator)),
            passes=tuple(_passes(generator)),
            solvers=_solvers(generator),
            call=_least(lambda: torch.relu(torch.zeros(1))) * 4,
            search=_search(generator),
            step=_step(generator),
            commit=COMMIT,
        )


def _least(work: Callable[[], object]) -> float:
    """Seconds of the quickest repetition; the first call warms up."""
    work()
    found: list[float] = []
    for _ in range(REPEATS):
        started = time.thread_time()
        work()
        found.append(time.thread_time() - started)
    return min(found)


def _both(run: _Run, x: Tensor, other: Tensor) -> tuple[float, float]:
    """Seconds of ``run`` alone, and with the gradients of both of its inputs."""
    variables = (x.clone().requires_grad_(), other.clone().requires_grad_())

    def train() -> None:
        with torch.enable_grad():
            run(*variables).sum().backward()

    return _least(lambda: run(x, other)), _least(train)


# ---- products ---------------------------------------------------------------------------------


def _products(generator: torch.Generator) -> Iterator[ProductSpeed]:
    for width in WIDTHS:
        square = torch.randn(width, width, generator=generator)
        rows = torch.randn(ROWS, width, generator=generator)
        linear = _both(F.linear, rows, square)
        yield _product_speed("linear", width, linear, ROWS * width**2)
        image = torch.randn(IMAGES, width, SIZE, SIZE, generator=generator)
        kernel = torch.randn(width, width, 3, 3, generator=generator)
        positions = IMAGES * SIZE**2
        conv = _both(lambda x, w: F.conv2d(x, w, padding=1), image, kernel)
        yield _product_speed("conv", width, conv, positions * 9 * width**2)
        apart = kernel[:, :1].contiguous()
        depthwise = _both(lambda x, w: F.conv2d(x, w, padding=1, groups=w.shape[0]), image, apart)
        yield _product_speed("depthwise", width, depthwise, positions * 9 * width)


def _product_speed(kind: str, width: int, seconds: tuple[float, float], macs: int) -> ProductSpeed:
    return ProductSpeed.model_validate(
        {"kind": kind, "width": width, "forward": seconds[0] / macs, "training": seconds[1] / macs}
    )


# ---- passes over a tensor ---------------------------------------------------------------------


def _passes(generator: torch.Generator) -> Iterator[PassSpeed]:
    width = 64
    x = torch.randn(ELEMENTS // width, width, generator=generator)
    gain = torch.ones(width)
    scale, low = torch.tensor([0.02]), torch.tensor([0.0])

    def quantize(a: Tensor, step: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return fake_quantize(a, step, None, -128, 127, None)
        mask = drop_mask(a, 0.5, generator)
        found = LearnedStep.apply(a, step, low, (-128, 127), mask, 1.0)
        assert isinstance(found, Tensor)
        return found

    def compare(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().sum(dtype=torch.float64) + b.square().sum(dtype=torch.float64)

    runs: Sequence[tuple[str, _Run, Tensor]] = (
        ("plain", lambda a, b: a + b, x),
        ("function", lambda a, b: F.gelu(a) + b, gain),
        ("norm", lambda a, b: F.layer_norm(a, (width,), b), gain),
        ("quantize", quantize, scale),
        ("compare", compare, x),
    )
    for kind, run, other in runs:
        yield _pass_speed(kind, _both(run, x, other))
    checked = _least(lambda: bool((~torch.isfinite(x)).any()))
    yield _pass_speed("check", (checked, checked))
    saved = _least(lambda: sha256(save({"x": x})).digest())
    yield _pass_speed("save", (saved, saved))


def _pass_speed(kind: str, seconds: tuple[float, float]) -> PassSpeed:
    return PassSpeed.model_validate(
        {"kind": kind, "forward": seconds[0] / ELEMENTS, "training": seconds[1] / ELEMENTS}
    )


# ---- what quantization itself does ------------------------------------------------------------


def _search(generator: torch.Generator) -> Rate:
    """The search of a whole range, by candidate."""
    spec = QuantSlot(
        format=IntFormat(bits=8, signed=True),
        symmetric=True,
        granularity=PerTensor(),
        observer=Mse(),
    )

    def once(size: int) -> float:
        values = torch.randn(1, size, generator=generator)
        rows = Rows(values, *values.aminmax(dim=1, keepdim=True))
        return _least(lambda: search(rows, spec)) / len(SHRINK_FACTORS)

    return _rate(once(FEW), once(SAMPLE), SAMPLE)


def _step(generator: torch.Generator) -> Rate:
    """Soft rounding of one weight, its gradient, and Adam's move."""

    def once(size: int) -> float:
        variable = torch.randn(64, size // 64, generator=generator).requires_grad_()
        floor, scale = torch.zeros(64, size // 64), torch.full((64, 1), 0.02)
        optimizer = torch.optim.Adam([variable], lr=1e-2, fused=True)

        def move() -> None:
            with torch.enable_grad():
                optimizer.zero_grad()
                soft = SoftRound.apply(variable, floor, scale, torch.zeros(()), (-8, 7), 1e-3, 5.0)
                assert isinstance(soft, Tensor)
                soft.sum().backward()
                optimizer.step()

        return _least(move)

    return _rate(once(FEW), once(SAMPLE), SAMPLE)


def _rate(few: float, many: float, items: int) -> Rate:
    return Rate(per_call=few, per_item=max(many - few, 0.0) / items)


def _solvers(generator: torch.Generator) -> tuple[SolverSpeed, ...]:
    seconds: dict[Solver, list[float]] = {"ridge": [], "optq": [], "descent": []}
    for k, rows in SOLVED:
        problem = _problem(k, rows, generator)
        codes, _ = optq(problem, damping=0.0)

        def ridge(problem: Quadratic = problem) -> Tensor:
            lower = torch.linalg.cholesky(problem.gram)
            return torch.cholesky_solve(problem.target.transpose(1, 2), lower)

        def round_all(problem: Quadratic = problem) -> object:
            return optq(problem, damping=0.0)

        def descend(problem: Quadratic = problem, codes: Tensor = codes) -> object:
            return coordinate_descent(problem, codes, max_flips=4 * codes.shape[-1])

        seconds["ridge"].append(_least(ridge))
        seconds["optq"].append(_least(round_all))
        seconds["descent"].append(_least(descend))
    return tuple(_solver_speed(kind, found) for kind, found in seconds.items())


def _problem(k: int, rows: int, generator: torch.Generator) -> Quadratic:
    """Rounding to 4 bits behind inputs that depend on one another."""
    mixing = torch.randn(k, k, generator=generator, dtype=torch.float64) / k**0.5
    gram = damped((mixing @ mixing.T)[None], 0.1)
    target = torch.randn(1, rows, k, generator=generator, dtype=torch.float64)
    scale = target.abs().amax(-1, keepdim=True) / 7
    return Quadratic(target, gram, scale, torch.zeros_like(scale), -8, 7)


def _solver_speed(kind: Solver, seconds: Sequence[float]) -> SolverSpeed:
    """The least relative error of terms that are not negative."""
    terms = np.array([[k, k * k * rows, k**3] for k, rows in SOLVED], dtype=np.float64)
    relative = terms / np.array(seconds)[:, None]
    kept = [0, 1, 2]
    while True:
        found = np.linalg.lstsq(relative[:, kept], np.ones(len(seconds)), rcond=None)[0]
        if (found >= 0).all():
            break
        kept = [at for at, value in zip(kept, found, strict=True) if value > 0]
    values = dict(zip(kept, map(float, found), strict=True))
    return SolverSpeed(
        kind=kind, column=values.get(0, 0.0), product=values.get(1, 0.0), cube=values.get(2, 0.0)
    )

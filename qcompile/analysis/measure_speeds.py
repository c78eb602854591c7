"""Measure ``Speeds``: some seconds, on the code that a run executes, at sizes that runs have.

Time is the processor's in the thread that computes, and the mean of several repetitions is taken:
what other work on the machine adds to them, it adds to a run as well.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from qcompile.analysis.mean_seconds import mean_seconds
from qcompile.analysis.measure_solvers import measure_solvers
from qcompile.analysis.speeds import (
    Pass,
    PassSpeed,
    Product,
    ProductSpeed,
    Rate,
    Speeds,
)
from qcompile.compat.cpu_features import attends_bf16
from qcompile.policy.number_format import IntFormat
from qcompile.policy.scheme import Mse, PerTensor, QuantSlot
from qcompile.quant.fake_quantize import fake_quantize
from qcompile.quant.level_search import CANDIDATES, fitted_scale
from qcompile.quant.levels import power_levels
from qcompile.quant.lsq import LearnedStep, drop_mask
from qcompile.quant.range_search import SHRINK_FACTORS, Rows, search
from qcompile.quant.rounding_gate import SoftRound

CALLS = 100
WIDTHS = (16, 64, 256)
IMAGES, SIZE = 8, 28
"""Of the inputs of convolutions."""
ROWS = 1 << 12
HEADS, HEAD = 64, 32
"""Of attention over so many samples and heads, each so wide; ``width`` is the number of tokens."""
NEW = 1 << 26
LARGE, HUGE = 1 << 22, 1 << 23
PASSED = (1 << 16, 1 << 20, LARGE)
"""Elements of the tensors that passes are timed on."""
FEW = 1 << 6
SAMPLE = 1 << 17
"""What a range search looks at."""
COMMIT = 2e-2
"""Seconds that two synced files and a manifest take; what is in them is counted apart."""

_Run = Callable[[Tensor, Tensor], Tensor]


def measure_speeds(machine: Mapping[str, str]) -> Speeds:
    """Takes about fifteen seconds; ``machine`` is what the figures are said to hold for."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return Speeds(
            machine=dict(machine),
            products=tuple(_products(generator)),
            passes=tuple(_passes(generator)),
            solvers=measure_solvers(generator),
            call=_call(),
            search=_search(generator),
            levels=_levels(generator),
            step=_step(generator),
            new=_new(),
            commit=COMMIT,
        )


def _both(run: _Run, x: Tensor, other: Tensor) -> tuple[float, float]:
    """Seconds of ``run`` alone, and with the gradients of both of its inputs."""
    return mean_seconds(lambda: run(x, other)), _training(run, x, other)


def _training(run: _Run, x: Tensor, other: Tensor, *, bf16: bool = False) -> float:
    variables = (x.clone().requires_grad_(), other.clone().requires_grad_())
    above = torch.ones_like(run(x, other))

    def train() -> None:
        with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            made = run(*variables)
        made.backward(above.to(made.dtype))
        for one in variables:
            one.grad = None

    return mean_seconds(train)


def _call() -> float:
    """Of a leaf module with its parameters given, as a walk evaluates it."""
    leaf, x = nn.ReLU(), torch.zeros(1)

    def many() -> None:
        for _ in range(CALLS):
            functional_call(leaf, {}, (x,), {})

    return mean_seconds(many) / CALLS


def _new() -> float:
    """Once: a second time the system gives the same pages again, which takes less time."""
    started = time.thread_time()
    torch.full((NEW,), 1.0)
    return (time.thread_time() - started) / NEW


# ---- products ---------------------------------------------------------------------------------


def _products(generator: torch.Generator) -> Iterator[ProductSpeed]:
    for width in WIDTHS:
        square = torch.randn(width, width, generator=generator)
        rows = torch.randn(ROWS, width, generator=generator)
        yield _product("linear", width, F.linear, (rows, square), ROWS * width**2)
        image = torch.randn(IMAGES, width, SIZE, SIZE, generator=generator)
        kernel = torch.randn(width, width, 3, 3, generator=generator)
        positions = IMAGES * SIZE**2
        yield _product("conv", width, _conv, (image, kernel), positions * 9 * width**2)
        apart = kernel[:, :1].contiguous()
        yield _product("depthwise", width, _depthwise, (image, apart), positions * 9 * width)
        heads = torch.randn(3, HEADS, width, HEAD, generator=generator)
        query, rest = heads[0].clone(), heads[1:].clone()
        yield _product("attention", width, _attend, (query, rest), 2 * HEADS * width**2 * HEAD)


def _conv(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=1)


def _depthwise(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=1, groups=weight.shape[0])


def _attend(query: Tensor, rest: Tensor) -> Tensor:
    """In float32 where ``passes.wide_attention`` takes it there."""
    with torch.autocast("cpu", enabled=torch.is_autocast_enabled("cpu") and attends_bf16()):
        return F.scaled_dot_product_attention(query, rest[0], rest[1])


def _product(
    kind: Product, width: int, run: _Run, of: tuple[Tensor, Tensor], macs: int
) -> ProductSpeed:
    forward, training = _both(run, *of)
    return ProductSpeed(
        kind=kind,
        width=width,
        forward=forward / macs,
        training=training / macs,
        training_bf16=_training(run, *of, bf16=True) / macs,
    )


# ---- passes over a tensor ---------------------------------------------------------------------


def _passes(generator: torch.Generator) -> Iterator[PassSpeed]:
    for size in PASSED:
        yield from _passes_over(size, generator)
    yield from _passes_over(HUGE, generator, training=False)
    saved = torch.randn(LARGE, generator=generator)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "state"

        def keep() -> None:
            data = save({"x": saved})
            sha256(data)
            file.write_bytes(data)
            file.unlink()

        seconds = mean_seconds(keep)
    yield _pass_speed("save", LARGE, seconds)


def _passes_over(
    size: int, generator: torch.Generator, *, training: bool = True
) -> Iterator[PassSpeed]:
    """Without ``training``, which takes ten times the memory, its speed is that of smaller ones."""
    width = 64
    x = torch.randn(size // width, width, generator=generator)
    gain = torch.ones(width)
    scale, low = torch.tensor([0.02]), torch.tensor([0.0])

    def quantize(a: Tensor, step: Tensor, mask: Tensor | None = None) -> Tensor:
        if not torch.is_grad_enabled():
            return fake_quantize(a, step, None, -128, 127, None)
        found = LearnedStep.apply(a, step, low, (-128, 127), mask, 1.0)
        assert isinstance(found, Tensor)
        return found

    def drop(a: Tensor, step: Tensor) -> Tensor:
        return quantize(a, step, drop_mask(a, 0.5, generator))

    def compare(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().sum(dtype=torch.float64) + b.square().sum(dtype=torch.float64)

    runs: Sequence[tuple[Pass, _Run, Tensor]] = (
        ("plain", lambda a, b: a + b, x),
        ("function", lambda a, b: F.gelu(a) + b, gain),
        ("norm", lambda a, b: F.layer_norm(a, (width,), b), gain),
        ("quantize", quantize, scale),
        ("drop", drop, scale),
        ("compare", compare, x),
    )
    for kind, run, other in runs:
        forward = mean_seconds(lambda run=run, other=other: run(x, other))
        yield _pass_speed(kind, size, forward, _training(run, x, other) if training else None)
    checked = mean_seconds(lambda: bool((~torch.isfinite(x)).any()))
    yield _pass_speed("check", size, checked)


def _pass_speed(kind: Pass, size: int, forward: float, training: float | None = None) -> PassSpeed:
    rate = None if training is None else training / size
    return PassSpeed(kind=kind, elements=size, forward=forward / size, training=rate)


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
        return mean_seconds(lambda: search(rows, spec)) / len(SHRINK_FACTORS)

    return _rate(once(FEW), once(SAMPLE), SAMPLE)


def _levels(generator: torch.Generator) -> Rate:
    """The search of a scale for sixteen levels, by candidate."""
    table = power_levels(4, 0.5)

    def once(size: int) -> float:
        values = torch.randn(1, size, generator=generator)
        return mean_seconds(lambda: fitted_scale(values, table, Mse())) / CANDIDATES

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

        return mean_seconds(move)

    return _rate(once(FEW), once(SAMPLE), SAMPLE)


def _rate(few: float, many: float, items: int) -> Rate:
    return Rate(per_call=few, per_item=max(many - few, 0.0) / items)

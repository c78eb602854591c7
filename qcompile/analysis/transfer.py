"""What each operation makes of the intervals of its operands.

Absent operations tell nothing. The minima of smooth activations are rounded down by more than one
rounding in bfloat16, so that they hold in every float type and for every approximation.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil, floor, inf, isinf, prod, sqrt
from types import MappingProxyType
from typing import TypeAlias, cast

from torch import Tensor, fx, nn

from qcompile.analysis.interval import ANYTHING, UNIT, Interval, hull, widened
from qcompile.capture.node_meta import facts
from qcompile.capture.operands import argument

GELU_LOW, SILU_LOW, MISH_LOW, HARDSWISH_LOW = -0.1715, -0.2800, -0.3105, -0.3765
SELU_LOW, SELU_SCALE = -1.7650, 1.0510
"""``-scale * alpha`` and ``scale`` of arXiv 1706.02515."""

NOT_NEGATIVE = Interval(0.0, inf)
NOT_POSITIVE = Interval(-inf, 0.0)
ZERO = Interval(0.0, 0.0)
WAVE = Interval(-1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """A node with the intervals of what it reads."""

    node: fx.Node
    found: Mapping[fx.Node, Interval]

    def of(self, value: object) -> Interval:
        match value:
            case fx.Node():
                return self.found[value]
            case bool():
                return ANYTHING
            case int() | float() if value == value:
                return Interval(float(value), float(value))
            case _:
                return ANYTHING

    def at(self, position: int, keyword: str) -> Interval:
        return self.of(argument(self.node, (position, keyword)))

    @property
    def first(self) -> Interval:
        return self.at(0, "input")

    @property
    def second(self) -> Interval:
        return self.at(1, "other")

    @property
    def tensors(self) -> Iterator[Interval]:
        return (self.found[item] for item in self.node.all_input_nodes if facts(item).is_float)


Function: TypeAlias = Callable[[Reading], Interval]
OfModule: TypeAlias = Callable[[Reading, nn.Module], Interval]


# ---- arithmetic -------------------------------------------------------------------------------


def _add(reading: Reading) -> Interval:
    return ANYTHING if "alpha" in reading.node.kwargs else reading.first + reading.second


def _sub(reading: Reading) -> Interval:
    return ANYTHING if "alpha" in reading.node.kwargs else reading.first - reading.second


def _mul(reading: Reading) -> Interval:
    first, second = (argument(reading.node, (0, "input")), argument(reading.node, (1, "other")))
    if first is second and isinstance(first, fx.Node):
        return reading.first.square
    return reading.first * reading.second


def _div(reading: Reading) -> Interval:
    rounds = reading.node.kwargs.get("rounding_mode") is not None
    return ANYTHING if rounds else reading.first / reading.second


def _pow(reading: Reading) -> Interval:
    exponent = argument(reading.node, (1, "exponent"))
    if exponent == 2:
        return reading.first.square
    is_even = isinstance(exponent, int | float) and exponent > 0 and exponent % 2 == 0
    return NOT_NEGATIVE if is_even or reading.first.low >= 0 else ANYTHING


def _clamp(reading: Reading) -> Interval:
    low, high = (argument(reading.node, at) for at in ((1, "min"), (2, "max")))
    result = reading.first
    for bound in (low, high):
        if isinstance(bound, fx.Node):
            return ANYTHING
    if isinstance(low, int | float):
        result = result.clamped(low=float(low))
    return result.clamped(high=float(high)) if isinstance(high, int | float) else result


def _to_integer(reading: Reading) -> Interval:
    low, high = reading.first.low, reading.first.high
    return Interval(low if isinf(low) else floor(low), high if isinf(high) else ceil(high))


def _sum(reading: Reading) -> Interval:
    """Of any number of terms: only a sign is left."""
    return _sign_of(reading.first)


def _product_of_matrices(reading: Reading) -> Interval:
    factors = list(reading.tensors)
    if len(factors) != 2:
        return ANYTHING
    return _sign_of(factors[0] * factors[1])


def _sign_of(interval: Interval) -> Interval:
    if interval.low >= 0:
        return NOT_NEGATIVE
    return NOT_POSITIVE if interval.high <= 0 else ANYTHING


def _of_all(reading: Reading) -> Interval:
    return hull(reading.tensors)


def _where(reading: Reading) -> Interval:
    if len(reading.node.args) < 3:
        return ANYTHING
    return reading.of(reading.node.args[1]) | reading.of(reading.node.args[2])


def _largest(reading: Reading) -> Interval:
    """``max(x)``, ``max(x, dim)`` and ``max(x, y)`` alike."""
    found = list(reading.tensors) or [ANYTHING]
    return Interval(max(i.low for i in found), max(i.high for i in found))


def _smallest(reading: Reading) -> Interval:
    found = list(reading.tensors) or [ANYTHING]
    return Interval(min(i.low for i in found), min(i.high for i in found))


def _masked_fill(reading: Reading) -> Interval:
    return reading.first | reading.at(2, "value")


def _attention(reading: Reading) -> Interval:
    """A mean of values with weights from 0 to 1; a row that is masked out may be zero."""
    return reading.at(2, "value") | ZERO


# ---- activations ------------------------------------------------------------------------------


def _relu(x: Interval) -> Interval:
    return x.clamped(low=0.0)


def _leaky(x: Interval, slope: float) -> Interval:
    if slope < 0:
        return ANYTHING
    ends = [end if end >= 0 or slope == 1 else end * slope for end in (x.low, x.high)]
    return Interval(min(0.0, 0.0 if slope == 0 else ends[0]), max(0.0, ends[1]))


def _above(low: float, x: Interval, steepest: float = 1.0) -> Interval:
    """Of a function from 0 to 0, not below ``low`` nor, where positive, above ``steepest * x``."""
    return Interval(0.0 if x.low >= 0 else low, max(0.0, x.high * steepest))


def _constantly(interval: Interval) -> Function:
    return lambda reading: interval


def _always(interval: Interval) -> OfModule:
    return lambda reading, leaf: interval


def _lifted(function: Callable[[Interval], Interval]) -> OfModule:
    return lambda reading, leaf: function(reading.first)


def _layer_norm(reading: Reading, leaf: nn.Module) -> Interval:
    """No number of n is more than ``sqrt(n - 1)`` standard deviations from their mean."""
    norm = cast("nn.LayerNorm", leaf)
    return _affine(sqrt(max(prod(norm.normalized_shape) - 1, 0)), norm.weight, norm.bias)


def _rms_norm(reading: Reading, leaf: nn.Module) -> Interval:
    """No number of n is more than ``sqrt(n)`` root mean squares."""
    norm = cast("nn.RMSNorm", leaf)
    return _affine(sqrt(prod(norm.normalized_shape)), norm.weight, None)


def _affine(reach: float, weight: Tensor | None, bias: Tensor | None) -> Interval:
    if weight is None:
        return widened(-reach, reach)
    if weight.is_meta or weight.numel() == 0:
        return ANYTHING
    size = weight.detach().double().abs() * reach
    middle = bias.detach().double() if bias is not None else size * 0
    low, high = (middle - size).min().item(), (middle + size).max().item()
    return widened(low, high)


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "add": _add,
        "sub": _sub,
        "subtract": _sub,
        "mul": _mul,
        "multiply": _mul,
        "div": _div,
        "divide": _div,
        "truediv": _div,
        "true_divide": _div,
        "pow": _pow,
        "clamp": _clamp,
        "clip": _clamp,
        "where": _where,
        **dict.fromkeys(("max", "maximum", "fmax", "amax"), _largest),
        **dict.fromkeys(("min", "minimum", "fmin", "amin"), _smallest),
        "masked_fill": _masked_fill,
        "scaled_dot_product_attention": _attention,
        "relu": lambda reading: _relu(reading.first),
        "relu6": lambda reading: reading.first.clamped(0.0, 6.0),
        "gelu": lambda reading: _above(GELU_LOW, reading.first),
        "silu": lambda reading: _above(SILU_LOW, reading.first),
        "mish": lambda reading: _above(MISH_LOW, reading.first),
        "hardswish": lambda reading: _above(HARDSWISH_LOW, reading.first),
        "selu": lambda reading: _above(SELU_LOW, reading.first, SELU_SCALE),
        "neg": lambda reading: -reading.first,
        "negative": lambda reading: -reading.first,
        "abs": lambda reading: reading.first.magnitude,
        "square": lambda reading: reading.first.square,
        "sum": _sum,
        "cumsum": _sum,
        "mean": lambda reading: reading.first,
        **dict.fromkeys(("round", "floor", "ceil", "trunc"), _to_integer),
        **dict.fromkeys(("matmul", "mm", "bmm", "einsum"), _product_of_matrices),
        **dict.fromkeys(
            ("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack"), _of_all
        ),
        **dict.fromkeys(
            ("pad", "tril", "triu", "diag", "glu"), lambda reading: reading.first | ZERO
        ),
        **dict.fromkeys(
            ("avg_pool1d", "avg_pool2d", "avg_pool3d"), lambda reading: reading.first | ZERO
        ),
        **dict.fromkeys(
            ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
            lambda reading: reading.first,
        ),
        **dict.fromkeys(("softmax", "softmin", "sigmoid", "hardsigmoid"), _constantly(UNIT)),
        **dict.fromkeys(("tanh", "softsign", "sin", "cos", "erf", "sign"), _constantly(WAVE)),
        **dict.fromkeys(
            ("exp", "sqrt", "rsqrt", "softplus", "var", "std", "norm", "erfc"),
            _constantly(NOT_NEGATIVE),
        ),
        **dict.fromkeys(("log_softmax", "logsigmoid"), _constantly(NOT_POSITIVE)),
    }
)

MODULES: Mapping[type[nn.Module], OfModule] = MappingProxyType(
    {
        nn.ReLU: _lifted(_relu),
        nn.ReLU6: _lifted(lambda x: x.clamped(0.0, 6.0)),
        nn.LeakyReLU: lambda r, leaf: _leaky(r.first, cast("nn.LeakyReLU", leaf).negative_slope),
        nn.ELU: lambda r, leaf: _elu(r.first, cast("nn.ELU", leaf).alpha),
        nn.CELU: lambda r, leaf: _elu(r.first, cast("nn.CELU", leaf).alpha),
        nn.SELU: _lifted(lambda x: _above(SELU_LOW, x, SELU_SCALE)),
        nn.GELU: _lifted(lambda x: _above(GELU_LOW, x)),
        nn.SiLU: _lifted(lambda x: _above(SILU_LOW, x)),
        nn.Mish: _lifted(lambda x: _above(MISH_LOW, x)),
        nn.Hardswish: _lifted(lambda x: _above(HARDSWISH_LOW, x)),
        nn.Hardtanh: lambda r, leaf: r.first.clamped(
            float(cast("nn.Hardtanh", leaf).min_val), float(cast("nn.Hardtanh", leaf).max_val)
        ),
        nn.GLU: _lifted(lambda x: x | ZERO),
        nn.LayerNorm: _layer_norm,
        nn.RMSNorm: _rms_norm,
        **dict.fromkeys(
            (nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.Softmax2d, nn.Softmin), _always(UNIT)
        ),
        **dict.fromkeys((nn.Tanh, nn.Softsign), _always(WAVE)),
        nn.Softplus: _always(NOT_NEGATIVE),
        **dict.fromkeys((nn.LogSigmoid, nn.LogSoftmax), _always(NOT_POSITIVE)),
        **dict.fromkeys(
            (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
            _lifted(lambda x: x | ZERO),
        ),
        **dict.fromkeys(
            (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), _lifted(lambda x: x)
        ),
    }
)


def _elu(x: Interval, alpha: float) -> Interval:
    return _above(-alpha * (1 + 2**-7), x) if alpha >= 0 else ANYTHING

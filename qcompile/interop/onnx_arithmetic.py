"""Operations on each element and over axes, as ONNX nodes.

Rows are called as torch is: the parameters after ``g`` have the names and the order of torch's own.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from qcompile.interop.onnx_graph import END, OnnxGraph, UnsupportedCallError, Value

Number: TypeAlias = int | float | bool
Scalar: TypeAlias = Value | Number
Row: TypeAlias = Callable[..., str | Value]


def unary(op_type: str) -> Row:
    def row(g: OnnxGraph, input: Value, inplace: bool = False) -> str:
        return g.call(op_type, input)

    return row


def same(g: OnnxGraph, input: Value, *ignored: object, **also: object) -> Value:
    """What changes nothing outside of training: dropout, ``contiguous``, ``detach``."""
    return input


def binary(op_type: str) -> Row:
    def row(g: OnnxGraph, input: Scalar, other: Scalar) -> str:
        first, second = promoted(g, input, other)
        return g.call(op_type, first, second)

    return row


def rsqrt(g: OnnxGraph, input: Value) -> str:
    if not input.is_float:
        raise UnsupportedCallError(f"the root of {input.dtype}")
    return g.call("Reciprocal", g.call("Sqrt", input))


def ne(g: OnnxGraph, input: Scalar, other: Scalar) -> str:
    return g.call("Not", g.call("Equal", *promoted(g, input, other)))


def logical(op_type: str) -> Row:
    """Of truth values; bits of whole numbers are something else."""

    def row(g: OnnxGraph, input: Scalar, other: Scalar) -> str:
        if not all(isinstance(item, bool | Value) for item in (input, other)):
            raise UnsupportedCallError("bits of a number")
        first, second = promoted(g, input, other)
        if first.dtype != "bool":
            raise UnsupportedCallError(f"bits of {first.dtype}")
        return g.call(op_type, first, second)

    return row


def cumsum(g: OnnxGraph, input: Value, dim: int, *, dtype: torch.dtype | None = None) -> str:
    """Whole numbers and truth values add up in int64, as torch has it."""
    if dtype is not None:
        raise UnsupportedCallError("a cumulative sum in another dtype")
    summed = input if input.is_float else g.cast(input, "int64")
    return g.call("CumSum", summed, g.scalar(input.axis(dim), "int64"))


def diff(
    g: OnnxGraph,
    input: Value,
    n: int = 1,
    dim: int = -1,
    prepend: Value | None = None,
    append: Value | None = None,
) -> str:
    """Of neighbours along one axis."""
    if n != 1 or input.dtype == "bool":
        raise UnsupportedCallError("differences of differences, or of truth values")
    axis = input.axis(dim)
    parts = [part for part in (prepend, input, append) if part is not None]
    if any(part.dtype != input.dtype for part in parts):
        raise UnsupportedCallError("differences of several dtypes")
    whole = input.name if len(parts) == 1 else g.call("Concat", *parts, axis=axis)
    rest = g.call("Slice", whole, g.integers([1]), g.integers([END]), g.integers([axis]))
    first = g.call("Slice", whole, g.integers([0]), g.integers([-1]), g.integers([axis]))
    return g.call("Sub", rest, first)


def add(g: OnnxGraph, input: Scalar, other: Scalar, *, alpha: Number = 1) -> str:
    return _scaled_sum(g, "Add", input, other, alpha)


def sub(g: OnnxGraph, input: Scalar, other: Scalar, *, alpha: Number = 1) -> str:
    return _scaled_sum(g, "Sub", input, other, alpha)


def div(g: OnnxGraph, input: Scalar, other: Scalar, *, rounding_mode: str | None = None) -> str:
    first, second = promoted(g, input, other)
    if rounding_mode is not None or not (first.is_float and second.is_float):
        raise UnsupportedCallError("a division that is not of floats")
    return g.call("Div", first, second)


def floor_divide(g: OnnxGraph, input: Scalar, other: Scalar) -> str:
    """Sizes only: ONNX rounds integers towards zero, which is the same for them."""
    first, second = promoted(g, input, other)
    if first.rank or second.rank:
        raise UnsupportedCallError("a floor division of tensors")
    return g.call("Div", first, second)


def promoted(g: OnnxGraph, input: Scalar, other: Scalar) -> tuple[Value, Value]:
    """Both operands as tensors of one dtype: a number takes that of the tensor beside it."""
    if isinstance(input, Value) and isinstance(other, Value):
        if input.dtype != other.dtype:
            raise UnsupportedCallError(f"{input.dtype} with {other.dtype}")
        return input, other
    if isinstance(input, Value):
        return input, _number(g, other, input)
    if isinstance(other, Value):
        return _number(g, input, other), other
    raise UnsupportedCallError("an operation on numbers alone")


def clamp(g: OnnxGraph, input: Value, min: Number | None = None, max: Number | None = None) -> str:
    bounds = (None if bound is None else _number(g, bound, input) for bound in (min, max))
    return g.call("Clip", input, *bounds)


def relu6(g: OnnxGraph, input: Value, inplace: bool = False) -> str:
    return clamp(g, input, 0.0, 6.0)


def hardtanh(
    g: OnnxGraph,
    input: Value,
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> str:
    return clamp(g, input, min_val, max_val)


def gelu(g: OnnxGraph, input: Value, approximate: str = "none") -> str:
    return g.call("Gelu", input, approximate=approximate)


def silu(g: OnnxGraph, input: Value, inplace: bool = False) -> str:
    return g.call("Mul", input, g.call("Sigmoid", input))


def hardsigmoid(g: OnnxGraph, input: Value, inplace: bool = False) -> str:
    return g.call("HardSigmoid", input, alpha=1 / 6, beta=0.5)


def leaky_relu(
    g: OnnxGraph, input: Value, negative_slope: float = 0.01, inplace: bool = False
) -> str:
    return g.call("LeakyRelu", input, alpha=float(negative_slope))


def elu(g: OnnxGraph, input: Value, alpha: float = 1.0, inplace: bool = False) -> str:
    return g.call("Elu", input, alpha=float(alpha))


def softmax(g: OnnxGraph, input: Value, dim: int = -1, *rest: object, **also: object) -> str:
    return _along(g, "Softmax", input, dim, (*rest, *also.values()))


def log_softmax(g: OnnxGraph, input: Value, dim: int = -1, *rest: object, **also: object) -> str:
    return _along(g, "LogSoftmax", input, dim, (*rest, *also.values()))


def reduction(op_type: str) -> Row:
    def row(
        g: OnnxGraph,
        input: Value,
        dim: int | Sequence[int] | None = None,
        keepdim: bool = False,
    ) -> str:
        dims = range(input.rank) if dim is None else [dim] if isinstance(dim, int) else dim
        axes = g.integers([input.axis(axis) for axis in dims])
        return g.call(op_type, input, axes, keepdims=int(keepdim))

    return row


def masked_fill(g: OnnxGraph, input: Value, mask: Value, value: Scalar) -> str:
    return g.call("Where", mask, promoted(g, input, value)[1], input)


def where(g: OnnxGraph, condition: Value, input: Scalar, other: Scalar) -> str:
    return g.call("Where", condition, *promoted(g, input, other))


def cast_to(dtype: str) -> Row:
    def row(g: OnnxGraph, input: Value) -> Value:
        return Value(g.cast(input, dtype), dtype, input.shape)

    return row


def _scaled_sum(g: OnnxGraph, op_type: str, input: Scalar, other: Scalar, alpha: Number) -> str:
    if alpha != 1:
        raise UnsupportedCallError("a sum with `alpha`")
    return g.call(op_type, *promoted(g, input, other))


def _along(g: OnnxGraph, op_type: str, input: Value, dim: int, rest: tuple[object, ...]) -> str:
    """``rest`` has the level of a warning, and a dtype that torch would compute in."""
    own = getattr(torch, input.dtype)
    if any(isinstance(item, torch.dtype) and item != own for item in rest):
        raise UnsupportedCallError("a softmax in another dtype")
    return g.call(op_type, input, axis=input.axis(dim))


def _number(g: OnnxGraph, value: Scalar, beside: Value) -> Value:
    if isinstance(value, Value):
        return value
    if isinstance(value, float) and not beside.is_float:
        raise UnsupportedCallError(f"{beside.dtype} with a float")
    if not beside.is_float and not _fits(int(value), beside.dtype):
        raise UnsupportedCallError(f"{beside.dtype} with {value}")
    return g.scalar(value, beside.dtype)


def _fits(value: int, dtype: str) -> bool:
    if dtype == "bool":
        return value in (0, 1)
    limits = torch.iinfo(getattr(torch, dtype))
    return limits.min <= value <= limits.max

"""The three functions of a quantized graph in ONNX, with equal numbers.

A static activation is ``QuantizeLinear`` and ``DequantizeLinear``. Their integer types end at -128,
127 and 255, so a narrower grid gets an explicit ``Clip`` of the codes between the two. A range that
is found at run time is written out in float arithmetic: ``DynamicQuantizeLinear`` knows one grid
only, and another formula for its scale.
"""

import torch
from torch import Tensor

from qcompile.interop.onnx_file import ElementType
from qcompile.interop.onnx_graph import FOUR_BITS, OnnxGraph, Value
from qcompile.quant.grid import smallest_scale
from qcompile.quant.grouping import grouping_of_scale
from qcompile.quant.packing import pack, unpack

HALF_BYTE = 4


def fake_quantize(
    g: OnnxGraph,
    x: Value,
    scale: Tensor,
    zero_point: Tensor | None,
    qmin: int,
    qmax: int,
    axis: int | None,
) -> Value:
    """``scale`` is ``[1]`` or ``[channels]``; codes are int8 where ``qmin`` is negative."""
    element_type = ElementType.INT8 if qmin < 0 else ElementType.UINT8
    shape = () if axis is None else tuple(scale.shape)
    step = g.constant(scale.reshape(shape), f"{g.scope}.scale")
    stored = torch.full(scale.shape, -qmin) if zero_point is None else zero_point
    zero = _codes(g, (stored.to(torch.int16) + qmin).reshape(shape), element_type, "zero_point")
    along = {} if axis is None else {"axis": x.axis(axis)}
    wide = x.name if x.dtype == "float32" else g.cast(x, "float32")
    codes = g.call("QuantizeLinear", wide, step, zero, **along)
    native = (-128, 127) if element_type is ElementType.INT8 else (0, 255)
    if (qmin, qmax) != native:
        low, high = (
            _codes(g, torch.tensor(bound), element_type, "bound") for bound in (qmin, qmax)
        )
        codes = g.call("Clip", codes, low, high)
    made = g.call("DequantizeLinear", codes, step, zero, **along)
    name = made if x.dtype == "float32" else g.cast(made, x.dtype)
    return Value(name, x.dtype, x.shape)


def fake_quantize_dynamic(
    g: OnnxGraph,
    x: Value,
    qmin: int,
    qmax: int,
    symmetric: bool,
    per_token: bool,
    share: float,
) -> Value:
    """``covering_now`` and ``Grid.fake_quantize``, operation by operation."""
    axes = g.integers([x.axis(-1)] if per_token else range(x.rank))
    wide = x.name if x.dtype == "float32" else g.cast(x, "float32")
    zero = _float(g, 0.0)
    low = g.call("Min", g.call("ReduceMin", wide, axes, keepdims=1), zero)
    high = g.call("Max", g.call("ReduceMax", wide, axes, keepdims=1), zero)
    if share != 1:
        low, high = (g.call("Mul", end, _float(g, share)) for end in (low, high))
    if symmetric:
        raw = g.call("Div", high, _float(g, qmax))
        if qmin < 0:
            raw = g.call("Max", raw, g.call("Div", low, _float(g, qmin)))
    else:
        steps = _float(g, qmax - qmin)
        raw = g.call("Sub", g.call("Div", high, steps), g.call("Div", low, steps))
    safe = g.call("Max", raw, _float(g, smallest_scale(torch.empty(0))))
    scale = g.call("Where", g.call("Equal", raw, zero), _float(g, 1.0), safe)
    least, most = _float(g, qmin), _float(g, qmax)
    if not symmetric:
        offset = g.call("Round", g.call("Sub", _float(g, qmin), g.call("Div", low, scale)))
        point = g.call("Min", g.call("Max", offset, _float(g, qmin)), _float(g, qmax))
        least, most = g.call("Sub", least, point), g.call("Sub", most, point)
    codes = g.call("Round", g.call("Div", wide, scale))
    inside = g.call("Min", g.call("Max", codes, least), most)
    made = g.call("Mul", inside, scale)
    name = made if x.dtype == "float32" else g.cast(made, x.dtype)
    return Value(name, x.dtype, x.shape)


def dequantize_weight(
    g: OnnxGraph,
    packed: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    bits: int,
    qmin: int,
    shape: tuple[int, ...],
    output_axis: int,
    dtype: torch.dtype,
) -> Value:
    """An integer initializer of 4 or 8 bits behind ``DequantizeLinear``.

    Groups become blocks along the second axis of the weight seen as rows, so the rows are stored
    and the weight's own shape is restored after it.
    """
    codes = unpack(packed, bits, _count(shape)).to(torch.int16).reshape(shape) + qmin
    view = grouping_of_scale(tuple(scale.shape), shape, output_axis)
    name = str(dtype).removeprefix("torch.")
    element_type = _weight_type(bits, qmin)
    zero = None if zero_point is None else zero_point.to(torch.int16) + qmin
    if view.groups == 1 and view.outer == 1:
        made = _dequantized(g, codes, scale.reshape(()), _reshaped(zero, ()), element_type, {})
    elif scale.dim() == 1:
        made = _dequantized(g, codes, scale, zero, element_type, {"axis": output_axis})
    else:
        rows = codes.movedim(output_axis, 0)
        flat = rows.reshape(view.outer, view.groups * view.size)
        blocks = {"axis": 1, "block_size": view.size}
        made = _dequantized(g, flat, scale, zero, element_type, blocks)
        made = _restored(g, made, tuple(rows.shape), output_axis)
    return Value(made if name == "float32" else g.cast(made, name), name, shape)


def _dequantized(
    g: OnnxGraph,
    codes: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    element_type: ElementType,
    along: dict[str, int],
) -> str:
    stored = _codes(g, codes, element_type, "codes")
    step = g.constant(scale, f"{g.scope}.scale")
    point = None if zero is None else _codes(g, zero, element_type, "zero_point")
    return g.call("DequantizeLinear", stored, step, point, **along)


def _restored(g: OnnxGraph, rows: str, shape: tuple[int, ...], output_axis: int) -> str:
    """``[out, row]`` back to the weight's own axes."""
    if len(shape) > 2:
        rows = g.call("Reshape", rows, g.integers(shape))
    if output_axis == 0:
        return rows
    order = [*range(1, output_axis + 1), 0, *range(output_axis + 1, len(shape))]
    return g.call("Transpose", rows, perm=tuple(order))


def _weight_type(bits: int, qmin: int) -> ElementType:
    if bits <= HALF_BYTE:
        return ElementType.INT4 if qmin < 0 else ElementType.UINT4
    return ElementType.INT8 if qmin < 0 else ElementType.UINT8


def _codes(g: OnnxGraph, codes: Tensor, element_type: ElementType, what: str) -> str:
    """Integers as an initializer; two's complement where the type is signed."""
    width = HALF_BYTE if element_type in FOUR_BITS else 2 * HALF_BYTE
    unsigned = codes.cpu().to(torch.int16) & ((1 << width) - 1)
    raw = pack(unsigned, width).numpy().tobytes()
    return g.initializer(f"{g.scope}.{what}", element_type, tuple(codes.shape), raw)


def _float(g: OnnxGraph, value: float) -> Value:
    return g.scalar(value, "float32")


def _reshaped(tensor: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    return None if tensor is None else tensor.reshape(shape)


def _count(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()

"""Products, convolutions, norms and pools, as ONNX nodes."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from qcompile.interop.onnx_arithmetic import promoted
from qcompile.interop.onnx_bias import saturates, stands_behind
from qcompile.interop.onnx_graph import END, OnnxGraph, UnsupportedCallError, Value
from qcompile.interop.onnx_shapes import transpose

Extent: TypeAlias = int | Sequence[int]
MATRIX = 2


def linear(g: OnnxGraph, input: Value, weight: Value, bias: Value | None = None) -> str:
    """Keep the weight ``[out, in]``.

    A blocked one in the other layout would be computed with 8-bit activations by onnxruntime.
    """
    if input.rank == MATRIX and not saturates(g, input, weight, bias):
        return g.call("Gemm", input, weight, bias, transB=1)
    product = g.call("MatMul", input, g.call("Transpose", weight, perm=(1, 0)))
    return product if bias is None else g.call("Add", product, bias)


def matmul(g: OnnxGraph, input: Value, other: Value) -> str:
    return g.call("MatMul", *promoted(g, input, other))


def embedding(g: OnnxGraph, input: Value, weight: Value, *rest: object, **also: object) -> str:
    if len(rest) > 1 and rest[1] is not None:
        raise UnsupportedCallError("an embedding with `max_norm`")
    return g.call("Gather", weight, input, axis=0)


def convolution(rank: int) -> Callable[..., str]:
    def row(
        g: OnnxGraph,
        input: Value,
        weight: Value,
        bias: Value | None = None,
        stride: Extent = 1,
        padding: Extent | str = 0,
        dilation: Extent = 1,
        groups: int = 1,
    ) -> str:
        spaced = _extent(dilation, rank)
        pads = _pads(padding, weight, spaced)
        behind = bias if stands_behind(g, input, weight, bias) else None
        inside = bias if behind is None else None
        made = g.call(
            "Conv",
            _batched(input, rank),
            weight,
            inside,
            strides=_extent(stride, rank),
            pads=pads,
            dilations=spaced,
            group=groups,
        )
        return _with_bias(g, made, behind, rank)

    return row


def transposed_convolution(rank: int) -> Callable[..., str]:
    def row(
        g: OnnxGraph,
        input: Value,
        weight: Value,
        bias: Value | None = None,
        stride: Extent = 1,
        padding: Extent = 0,
        output_padding: Extent = 0,
        groups: int = 1,
        dilation: Extent = 1,
    ) -> str:
        behind = bias if stands_behind(g, input, weight, bias) else None
        inside = bias if behind is None else None
        made = g.call(
            "ConvTranspose",
            _batched(input, rank),
            weight,
            inside,
            strides=_extent(stride, rank),
            pads=_extent(padding, rank) * 2,
            output_padding=_extent(output_padding, rank),
            dilations=_extent(dilation, rank),
            group=groups,
        )
        return _with_bias(g, made, behind, rank)

    return row


def batch_norm(
    g: OnnxGraph,
    input: Value,
    running_mean: Value | None,
    running_var: Value | None,
    weight: Value | None = None,
    bias: Value | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> str:
    given = (weight, bias, running_mean, running_var)
    if training or any(tensor is None for tensor in given):
        raise UnsupportedCallError("a batch norm without statistics or weights of its own")
    return g.call("BatchNormalization", input, *given, epsilon=float(eps))


def layer_norm(
    g: OnnxGraph,
    input: Value,
    normalized_shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
) -> str:
    gain = weight or g.call("Expand", g.scalar(1.0, input.dtype), g.integers(normalized_shape))
    axis = -len(normalized_shape)
    return g.call("LayerNormalization", input, gain, bias, axis=axis, epsilon=float(eps))


def channel_balance(g: OnnxGraph, input: Value, shift: Value, gain: Value) -> str:
    return g.call("Mul", g.call("Sub", input, shift), gain)


def block_rotation(g: OnnxGraph, input: Value, signs: Value) -> str:
    block = signs.size(0)
    stretches = g.call("Reshape", input, g.integers([-1, block]))
    factor = signs if input.dtype == signs.dtype else g.cast(signs, input.dtype)
    sums = g.call("MatMul", stretches, factor)
    turned = g.call("Mul", sums, g.scalar(block**-0.5, input.dtype))
    return g.call("Reshape", turned, g.call("Shape", input))


def max_pool(rank: int) -> Callable[..., str]:
    def row(
        g: OnnxGraph,
        input: Value,
        kernel_size: Extent,
        stride: Extent | None = None,
        padding: Extent = 0,
        dilation: Extent = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> str:
        if return_indices or ceil_mode:
            raise UnsupportedCallError("a pool with `return_indices` or `ceil_mode`")
        return g.call(
            "MaxPool",
            _batched(input, rank),
            kernel_shape=_extent(kernel_size, rank),
            strides=_extent(stride or kernel_size, rank),
            pads=_extent(padding, rank) * 2,
            dilations=_extent(dilation, rank),
        )

    return row


def average_pool(rank: int) -> Callable[..., str]:
    def row(
        g: OnnxGraph,
        input: Value,
        kernel_size: Extent,
        stride: Extent | None = None,
        padding: Extent = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> str:
        if ceil_mode or divisor_override is not None:
            raise UnsupportedCallError("a pool with `ceil_mode` or `divisor_override`")
        return g.call(
            "AveragePool",
            _batched(input, rank),
            kernel_shape=_extent(kernel_size, rank),
            strides=_extent(stride or kernel_size, rank),
            pads=_extent(padding, rank) * 2,
            count_include_pad=int(count_include_pad),
        )

    return row


def global_pool(rank: int) -> Callable[..., str]:
    """``adaptive_avg_pool`` to one element; to another size its windows are unequal."""

    def row(g: OnnxGraph, input: Value, output_size: Extent) -> str:
        if set(_extent(output_size, rank)) != {1}:
            raise UnsupportedCallError("an adaptive pool to more than one element")
        return g.call("GlobalAveragePool", _batched(input, rank))

    return row


def pad(
    g: OnnxGraph,
    input: Value,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> str:
    """Torch counts from the last axis on, two numbers each; ONNX from the first, ends last."""
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    axes = len(pad) // 2
    starts, ends = [*reversed(pad[::2])], [*reversed(pad[1::2])]
    before = [0] * (input.rank - axes)
    filling = g.scalar(value or 0.0, input.dtype) if mode == "constant" else None
    amounts = g.integers([*before, *starts, *before, *ends])
    return g.call("Pad", input, amounts, filling, mode=modes[mode])


def attention(
    g: OnnxGraph,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> str:
    """A float mask is added to the scores; where one of bool says no they are minus infinity."""
    if enable_gqa:
        raise UnsupportedCallError("grouped attention")
    factor = query.size(-1) ** -0.5 if scale is None else scale
    scores = g.call("MatMul", query, transpose(g, key, -1, -2))
    scores = g.call("Mul", scores, g.scalar(factor, query.dtype))
    if is_causal:
        sizes = g.call("Slice", g.call("Shape", scores), g.integers([-2]), g.integers([END]))
        past = g.call("Trilu", g.call("Expand", g.scalar(True, "bool"), sizes), upper=0)
        scores = _only(g, past, scores, query.dtype)
    if attn_mask is not None and attn_mask.dtype == "bool":
        scores = _only(g, attn_mask, scores, query.dtype)
    elif attn_mask is not None:
        scores = g.call("Add", scores, attn_mask)
    return g.call("MatMul", g.call("Softmax", scores, axis=-1), value)


def _only(g: OnnxGraph, mask: Value | str, scores: str, dtype: str) -> str:
    return g.call("Where", mask, scores, g.scalar(float("-inf"), dtype))


def addmm(
    g: OnnxGraph, input: Value, mat1: Value, mat2: Value, *, beta: float = 1, alpha: float = 1
) -> str:
    if (beta, alpha) != (1, 1):
        raise UnsupportedCallError("a product with `beta` or `alpha`")
    return g.call("Add", input, g.call("MatMul", mat1, mat2))


def _with_bias(g: OnnxGraph, product: str, bias: Value | None, rank: int) -> str:
    if bias is None:
        return product
    return g.call("Add", product, g.call("Reshape", bias, g.integers([-1, *[1] * rank])))


def _batched(input: Value, rank: int) -> Value:
    if input.rank != rank + 2:
        raise UnsupportedCallError("an image without a batch")
    return input


def _extent(value: Extent, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else (tuple(value) * rank)[:rank]


def _pads(padding: Extent | str, weight: Value, dilation: tuple[int, ...]) -> tuple[int, ...]:
    rank = len(dilation)
    if padding == "same":
        totals = [step * (weight.size(2 + axis) - 1) for axis, step in enumerate(dilation)]
        return (*(total // 2 for total in totals), *(total - total // 2 for total in totals))
    return _extent(0 if isinstance(padding, str) else padding, rank) * 2

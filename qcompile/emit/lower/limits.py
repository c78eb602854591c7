"""What each kernel can take, whatever a target's file says: a wrong table must not crash a process.

``_weight_int8pack_mm`` reads past its rows where their length is no multiple of 16, and oneDNN's
convolution gives what happens to be in memory for a window with nothing but padding (torch 2.13).
More of that kind, on some processors: ``compat.onednn_defects``.
"""

from collections.abc import Callable, Mapping, Sequence

from qcompile.capture.node_meta import facts
from qcompile.compat.onednn_defects import miscounts_one_column, miscounts_zero_points_in_groups
from qcompile.emit.lower.layer import ConvShape, DynamicInput, Layer, StaticInput
from qcompile.emit.lower.product import axis_to_double, has_nine_bits, product_of
from qcompile.emit.lower.weight_only import GROUPS, MOST_CODES
from qcompile.targets.target import Kernel

OUTPUTS = 16
INPUTS = 16
ONE_SCALE = "the kernel has one scale for each output"
IMAGES = 4
"""Axes."""
COMPUTED_BIAS = "codes around zero do not fit 8 bits, and the graph computes its bias"
WIDEST = 255
"""Size of a code around its zero point."""
LARGEST = (1 << 31) - 1
HERE = "on this processor"
Check = Callable[[Layer], str | None]


def why_not(kernel: Kernel, layer: Layer) -> str | None:
    """Say why ``kernel`` cannot take ``layer``; ``None`` if it can."""
    check = CHECKS.get(kernel)
    return f"`{kernel}` is no kernel of this program" if check is None else check(layer)


def _qconv(layer: Layer) -> str | None:
    if layer.conv is None or not isinstance(layer.quantizer, StaticInput):
        return "`onednn_qconv` is for convolutions of activations with a static range"
    if layer.weight.scale.shape[1] > 1:
        return ONE_SCALE
    shape = facts(layer.source).shape
    if shape is not None and len(shape) != IMAGES:
        return "it takes one image, without an axis for a batch"
    height, width = layer.weight.codes.shape[2:]
    if _sees_padding_alone(layer.conv, (height, width), (shape or (None, None))[-2:]):
        return "some of its windows lie in the padding"
    doubled = axis_to_double(layer.conv, (height, width))
    if doubled is None and has_nine_bits(layer.weight):
        return "codes around zero do not fit 8 bits, and its rows are dilated in groups"
    if _has_zero_point_in_groups(layer, layer.quantizer, layer.conv):
        return f"{HERE} oneDNN miscounts the zero point of images that are padded, in groups"
    if _has_one_column(layer) and may_miscount_one_column(layer, layer.conv):
        return f"{HERE} oneDNN miscounts strided results that are one pixel wide"
    return _sums(layer, layer.quantizer.top)


def _has_zero_point_in_groups(layer: Layer, grid: StaticInput, conv: ConvShape) -> bool:
    outputs, inputs = layer.weight.codes.shape[:2]
    is_plain = conv.groups == 1 or inputs == 1 == outputs // conv.groups
    needs = not is_plain and grid.zero_point != 0 and any(conv.padding)
    return needs and miscounts_zero_points_in_groups()


def _has_one_column(layer: Layer) -> bool:
    shape = facts(layer.node).shape or (0, 0)
    return shape[-1] == 1 and shape[-2] != 1


def may_miscount_one_column(layer: Layer, conv: ConvShape) -> bool:
    """Where a result is one pixel wide, and several high."""
    inputs, width = layer.weight.codes.shape[1], layer.weight.codes.shape[-1]
    return conv.stride[1] > 1 and width > 1 and (inputs == 1 or miscounts_one_column())


def _sees_padding_alone(
    conv: ConvShape, kernel: Sequence[int], images: Sequence[int | str | None]
) -> bool:
    axes = zip(conv.stride, conv.padding, conv.dilation, kernel, images, strict=True)
    return any(_axis_sees_padding_alone(*axis) for axis in axes)


def _axis_sees_padding_alone(
    stride: int, padding: int, dilation: int, kernel: int, image: int | str | None
) -> bool:
    """Dilated kernels may reach across a small image; one of unknown size is none."""
    reach = dilation * (kernel - 1)
    if padding > reach:
        return True
    if dilation == 1 or not padding or not isinstance(image, int):
        return False
    starts = range(-padding, image + padding - reach, stride)
    taps = range(0, reach + 1, dilation)
    return any(all(not 0 <= start + tap < image for tap in taps) for start in starts)


def _qlinear(layer: Layer) -> str | None:
    if layer.conv is not None or not isinstance(layer.quantizer, StaticInput):
        return "`onednn_qlinear` is for linear layers of activations with a static range"
    if layer.weight.scale.shape[1] > 1:
        return ONE_SCALE
    if layer.has_computed_bias and has_nine_bits(layer.weight):
        return COMPUTED_BIAS
    return _sums(layer, layer.quantizer.top)


def _qlinear_dynamic(layer: Layer) -> str | None:
    if layer.conv is not None or not isinstance(layer.quantizer, DynamicInput):
        return "`onednn_qlinear_dynamic` is for linear layers with a range found at run time"
    if layer.weight.scale.shape[1] > 1:
        return ONE_SCALE
    return _sums(layer, layer.quantizer.qmax - layer.quantizer.qmin)


def _int_mm(layer: Layer) -> str | None:
    if layer.conv is not None or layer.quantizer is None:
        return "`int_mm` is for linear layers of quantized activations"
    if layer.weight.scale.shape[1] > 1:
        return ONE_SCALE
    given = layer.quantizer
    if isinstance(given, StaticInput) and layer.has_computed_bias and has_nine_bits(layer.weight):
        return COMPUTED_BIAS
    return _sums(layer, given.top if isinstance(given, StaticInput) else given.qmax - given.qmin)


def _sums(layer: Layer, top: int) -> str | None:
    """Sums of products with codes of at most ``top`` must be 32-bit numbers, in any order."""
    fits = layer.weight.codes[0].numel() * WIDEST * top <= LARGEST
    if fits or product_of(layer).largest_sum * top <= LARGEST:
        return None
    return "its sums do not fit 32 bits"


def _int8(layer: Layer) -> str | None:
    if layer.conv is not None or layer.quantizer is not None:
        return "`int8_weight_only` is for linear layers of float activations"
    if layer.weight.codes.shape[1] % INPUTS:
        return f"`int8_weight_only` needs inputs that are a multiple of {INPUTS}"
    if layer.weight.scale.shape[1] > 1:
        return ONE_SCALE
    return "codes around zero do not fit 8 bits" if has_nine_bits(layer.weight) else None


def _int4(layer: Layer) -> str | None:
    if layer.conv is not None or layer.quantizer is not None:
        return "kernels of 4-bit weights are for linear layers of float activations"
    outputs, inputs = layer.weight.codes.shape
    columns = layer.weight.scale.shape[1]
    fits = inputs % GROUPS[-1] == 0 if columns == 1 else inputs // columns in GROUPS
    if outputs % OUTPUTS or not fits or int(layer.weight.codes.amax()) >= MOST_CODES:
        return f"a kernel needs 4 bits, groups of {GROUPS}, outputs in {OUTPUTS}s"
    return None


CHECKS: Mapping[Kernel, Check] = {
    "onednn_qconv": _qconv,
    "onednn_qlinear": _qlinear,
    "onednn_qlinear_dynamic": _qlinear_dynamic,
    "int4_weight_only": _int4,
    "int8_weight_only": _int8,
    "int_mm": _int_mm,
    "int4_tensor_cores": _int4,
}

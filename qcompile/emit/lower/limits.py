"""What each kernel can take, whatever a target's file says: a wrong table must not crash a process.

``_weight_int8pack_mm`` reads past its rows where their length is no multiple of 16 (torch 2.13).
"""

from collections.abc import Callable, Mapping

from qcompile.emit.lower.layer import DynamicInput, Layer, StaticInput
from qcompile.emit.lower.weight_only import GROUPS, MOST_CODES
from qcompile.targets.target import Kernel

OUTPUTS = 16
INPUTS = 16
Check = Callable[[Layer], str | None]


def why_not(kernel: Kernel, layer: Layer) -> str | None:
    """Say why ``kernel`` cannot take ``layer``; ``None`` if it can."""
    check = CHECKS.get(kernel)
    return f"`{kernel}` is no kernel of this program" if check is None else check(layer)


def _qconv(layer: Layer) -> str | None:
    if layer.conv is None or not isinstance(layer.quantizer, StaticInput):
        return "`onednn_qconv` is for convolutions of activations with a static range"
    return _bytes(layer)


def _qlinear(layer: Layer) -> str | None:
    if layer.conv is not None or not isinstance(layer.quantizer, StaticInput):
        return "`onednn_qlinear` is for linear layers of activations with a static range"
    return _bytes(layer)


def _qlinear_dynamic(layer: Layer) -> str | None:
    if layer.conv is not None or not isinstance(layer.quantizer, DynamicInput):
        return "`onednn_qlinear_dynamic` is for linear layers with a range found at run time"
    return _bytes(layer)


def _int8(layer: Layer) -> str | None:
    if layer.conv is not None or layer.quantizer is not None:
        return "`int8_weight_only` is for linear layers of float activations"
    if layer.weight.codes.shape[1] % INPUTS:
        return f"`int8_weight_only` needs inputs that are a multiple of {INPUTS}"
    return _bytes(layer)


def _bytes(layer: Layer) -> str | None:
    if layer.weight.scale.shape[1] > 1:
        return "the kernel has one scale for each output"
    low, high = layer.weight.centred_range()
    return None if low >= -128 and high <= 127 else "codes around zero do not fit 8 bits"


def _int4(layer: Layer) -> str | None:
    if layer.conv is not None or layer.quantizer is not None:
        return "`int4_weight_only` is for linear layers of float activations"
    outputs, inputs = layer.weight.codes.shape
    columns = layer.weight.scale.shape[1]
    fits = inputs % GROUPS[-1] == 0 if columns == 1 else inputs // columns in GROUPS
    if outputs % OUTPUTS or not fits or int(layer.weight.codes.amax()) >= MOST_CODES:
        return f"`int4_weight_only` needs 4 bits, groups of {GROUPS}, outputs in {OUTPUTS}s"
    return None


CHECKS: Mapping[Kernel, Check] = {
    "onednn_qconv": _qconv,
    "onednn_qlinear": _qlinear,
    "onednn_qlinear_dynamic": _qlinear_dynamic,
    "int4_weight_only": _int4,
    "int8_weight_only": _int8,
}

"""Where the bias of a product stands, so that onnxruntime leaves its numbers alone.

It rounds a bias inside of a product to int32 multiples of the scales of input and weight (1.31),
for its integer kernels and also where it has none. That is coarse for 4-bit weights, for which it
has none. And it saturates in an output with next to no weights, whose scale is tiny: one such
output of EfficientNet-Lite0 was off by 63 of 255 codes.
"""

import torch
from torch import Tensor

from qcompile.interop.onnx_file import OnnxNode
from qcompile.interop.onnx_graph import FOUR_BITS, OnnxGraph, Value

LARGEST = (1 << 31) - 1
"""Of an int32 bias."""


def stands_behind(g: OnnxGraph, input: Value, weight: Value, bias: Value | None) -> bool:
    """Whether ``bias`` has to be an ``Add`` behind a convolution, which stays in float then."""
    by = _dequantizer(g, weight)
    if bias is None or by is None:
        return False
    in_half_bytes = g.initializers[by.inputs[0]].element_type in FOUR_BITS
    return in_half_bytes or saturates(g, input, weight, bias)


def saturates(g: OnnxGraph, input: Value, weight: Value, bias: Value | None) -> bool:
    """Whether ``bias`` is no int32 number of steps, in the output of any scale."""
    by, of_input = _dequantizer(g, weight), _dequantizer(g, input)
    if bias is None or by is None or of_input is None or bias.name not in g.initializers:
        return False
    scale, held = _floats(g, by.inputs[1]), _floats(g, bias.name)
    if scale.numel() not in (1, held.numel()):  # a scale a group: no output has one step
        return False
    step = _floats(g, of_input.inputs[1]) * scale
    return bool((held.abs() > step * LARGEST).any())


def _dequantizer(g: OnnxGraph, value: Value) -> OnnxNode | None:
    made = next((node for node in reversed(g.nodes) if value.name in node.outputs), None)
    return made if made is not None and made.op_type == "DequantizeLinear" else None


def _floats(g: OnnxGraph, name: str) -> Tensor:
    """float64, of an initializer of float32."""
    return torch.frombuffer(bytearray(g.initializers[name].raw), dtype=torch.float32).double()

"""The one table from an operation of a graph to its ONNX nodes; what has no row is refused.

A name is the bare one: ``add`` for ``torch.add``, ``operator.iadd`` and ``Tensor.add_``. A leaf
module is the row of its function, called with the module's own settings.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias, cast

from torch import fx, nn

from qcompile.capture.balance import ChannelBalance
from qcompile.capture.leaves import constructor_arguments
from qcompile.capture.operations import bare_name
from qcompile.capture.rotation import BlockRotation
from qcompile.interop import onnx_arithmetic as arithmetic
from qcompile.interop import onnx_creation as creation
from qcompile.interop import onnx_layers as layers
from qcompile.interop import onnx_quantizers as quantizers
from qcompile.interop import onnx_shapes as shapes
from qcompile.interop.onnx_graph import UnsupportedCallError

Row: TypeAlias = Callable[..., object]

_UNARY = (
    ("relu", "Relu"),
    ("sigmoid", "Sigmoid"),
    ("tanh", "Tanh"),
    ("mish", "Mish"),
    ("hardswish", "HardSwish"),
    ("exp", "Exp"),
    ("log", "Log"),
    ("sqrt", "Sqrt"),
    ("reciprocal", "Reciprocal"),
    ("neg", "Neg"),
    ("abs", "Abs"),
    ("erf", "Erf"),
    ("floor", "Floor"),
    ("ceil", "Ceil"),
    ("round", "Round"),
    ("sin", "Sin"),
    ("cos", "Cos"),
)
_BINARY = (
    ("mul", "Mul"),
    ("pow", "Pow"),
    ("maximum", "Max"),
    ("minimum", "Min"),
    ("eq", "Equal"),
    ("lt", "Less"),
    ("le", "LessOrEqual"),
    ("gt", "Greater"),
    ("ge", "GreaterOrEqual"),
)
_REDUCTIONS = (("mean", "ReduceMean"), ("sum", "ReduceSum"), ("amax", "ReduceMax"))
_CASTS = (("float", "float32"), ("long", "int64"), ("half", "float16"), ("double", "float64"))
_SAME = ("contiguous", "detach", "clone", "dropout", "dropout2d", "identity")

ROWS: Mapping[str, Row] = MappingProxyType(
    {
        **{name: arithmetic.unary(op_type) for name, op_type in _UNARY},
        **{name: arithmetic.binary(op_type) for name, op_type in _BINARY},
        **{name: arithmetic.reduction(op_type) for name, op_type in _REDUCTIONS},
        **{name: arithmetic.cast_to(dtype) for name, dtype in _CASTS},
        **dict.fromkeys(_SAME, arithmetic.same),
        "add": arithmetic.add,
        "sub": arithmetic.sub,
        "div": arithmetic.div,
        "truediv": arithmetic.div,
        "floordiv": arithmetic.floor_divide,
        "floor_divide": arithmetic.floor_divide,
        "rsqrt": arithmetic.rsqrt,
        "ne": arithmetic.ne,
        "and": arithmetic.logical("And"),
        "logical_and": arithmetic.logical("And"),
        "or": arithmetic.logical("Or"),
        "logical_or": arithmetic.logical("Or"),
        "cumsum": arithmetic.cumsum,
        "diff": arithmetic.diff,
        "arange": creation.arange,
        "ones": creation.filled(1),
        "zeros": creation.filled(0),
        "new_ones": creation.new_filled(1),
        "new_zeros": creation.new_filled(0),
        "clamp": arithmetic.clamp,
        "clip": arithmetic.clamp,
        "relu6": arithmetic.relu6,
        "hardtanh": arithmetic.hardtanh,
        "gelu": arithmetic.gelu,
        "silu": arithmetic.silu,
        "hardsigmoid": arithmetic.hardsigmoid,
        "leaky_relu": arithmetic.leaky_relu,
        "elu": arithmetic.elu,
        "softmax": arithmetic.softmax,
        "log_softmax": arithmetic.log_softmax,
        "masked_fill": arithmetic.masked_fill,
        "where": arithmetic.where,
        "size": shapes.size,
        "getattr": shapes.attribute,
        "reshape": shapes.reshape,
        "view": shapes.reshape,
        "flatten": shapes.flatten,
        "permute": shapes.permute,
        "transpose": shapes.transpose,
        "unsqueeze": shapes.unsqueeze,
        "squeeze": shapes.squeeze,
        "expand": shapes.expand,
        "cat": shapes.cat,
        "concat": shapes.cat,
        "stack": shapes.stack,
        "unbind": shapes.unbind,
        "chunk": shapes.chunk,
        "split": shapes.split,
        "getitem": shapes.getitem,
        "select": shapes.select,
        "gather": shapes.gather,
        "linear": layers.linear,
        "matmul": layers.matmul,
        "bmm": layers.matmul,
        "mm": layers.matmul,
        "addmm": layers.addmm,
        "embedding": layers.embedding,
        "conv1d": layers.convolution(1),
        "conv2d": layers.convolution(2),
        "conv3d": layers.convolution(3),
        "conv_transpose1d": layers.transposed_convolution(1),
        "conv_transpose2d": layers.transposed_convolution(2),
        "conv_transpose3d": layers.transposed_convolution(3),
        "batch_norm": layers.batch_norm,
        "layer_norm": layers.layer_norm,
        "block_rotation": layers.block_rotation,
        "channel_balance": layers.channel_balance,
        "max_pool1d": layers.max_pool(1),
        "max_pool2d": layers.max_pool(2),
        "avg_pool1d": layers.average_pool(1),
        "avg_pool2d": layers.average_pool(2),
        "adaptive_avg_pool1d": layers.global_pool(1),
        "adaptive_avg_pool2d": layers.global_pool(2),
        "pad": layers.pad,
        "scaled_dot_product_attention": layers.attention,
    }
)

QUANTIZERS: Mapping[str, Row] = MappingProxyType(
    {
        "fake_quantize": quantizers.fake_quantize,
        "fake_quantize_dynamic": quantizers.fake_quantize_dynamic,
        "dequantize_weight": quantizers.dequantize_weight,
    }
)
"""Rows that get the stored tensors themselves: what they hold is rewritten."""

_MODULES: Mapping[type[nn.Module], str] = MappingProxyType(
    {
        nn.Linear: "linear",
        nn.Embedding: "embedding",
        nn.Conv1d: "conv1d",
        nn.Conv2d: "conv2d",
        nn.Conv3d: "conv3d",
        nn.ConvTranspose1d: "conv_transpose1d",
        nn.ConvTranspose2d: "conv_transpose2d",
        nn.ConvTranspose3d: "conv_transpose3d",
        nn.BatchNorm1d: "batch_norm",
        nn.BatchNorm2d: "batch_norm",
        nn.BatchNorm3d: "batch_norm",
        nn.LayerNorm: "layer_norm",
        nn.ReLU: "relu",
        nn.ReLU6: "relu6",
        nn.Hardtanh: "hardtanh",
        nn.LeakyReLU: "leaky_relu",
        nn.ELU: "elu",
        nn.GELU: "gelu",
        nn.SiLU: "silu",
        nn.Mish: "mish",
        nn.Sigmoid: "sigmoid",
        nn.Tanh: "tanh",
        nn.Hardsigmoid: "hardsigmoid",
        nn.Hardswish: "hardswish",
        nn.Softmax: "softmax",
        nn.LogSoftmax: "log_softmax",
        nn.MaxPool1d: "max_pool1d",
        nn.MaxPool2d: "max_pool2d",
        nn.AvgPool1d: "avg_pool1d",
        nn.AvgPool2d: "avg_pool2d",
        nn.AdaptiveAvgPool1d: "adaptive_avg_pool1d",
        nn.AdaptiveAvgPool2d: "adaptive_avg_pool2d",
        nn.Flatten: "flatten",
        nn.Identity: "identity",
        nn.Dropout: "dropout",
        nn.Dropout2d: "dropout2d",
        nn.ZeroPad2d: "pad",
        nn.ConstantPad2d: "pad",
        nn.ReflectionPad2d: "pad",
        nn.ReplicationPad2d: "pad",
        BlockRotation: "block_rotation",
        ChannelBalance: "channel_balance",
    }
)
_PAD_MODES: Mapping[type[nn.Module], str] = MappingProxyType(
    {nn.ReflectionPad2d: "reflect", nn.ReplicationPad2d: "replicate"}
)
_WITH_TENSORS = frozenset({"linear", "embedding", "batch_norm", "layer_norm"})
_WITHOUT_SETTINGS = frozenset({"linear", "embedding", "dropout", "dropout2d", "identity"})


def operation(node: fx.Node, module: nn.Module) -> str:
    """Name in ``ROWS`` or ``QUANTIZERS``, or of what has no row, as a person knows it."""
    if node.op == "call_module":
        kind = type(module.get_submodule(str(node.target)))
        return _MODULES.get(kind, kind.__name__)
    return bare_name(node)


def row_of(node: fx.Node, module: nn.Module) -> Row | None:
    name = operation(node, module)
    return ROWS.get(name) or QUANTIZERS.get(name)


def settings(leaf: nn.Module) -> dict[str, object]:
    """Keyword arguments of the row beside the input: the leaf's tensors and settings."""
    name = _MODULES[type(leaf)]
    given: dict[str, object] = {}
    if name in _WITH_TENSORS or name.startswith("conv"):
        names = ("weight", "bias", "running_mean", "running_var")
        given |= {item: getattr(leaf, item) for item in names if hasattr(leaf, item)}
    if name in _WITHOUT_SETTINGS:
        return given
    return given | _renamed(name, leaf)


def _renamed(name: str, leaf: nn.Module) -> dict[str, object]:
    own = constructor_arguments(leaf)
    match name:
        case "pad":
            mode = _PAD_MODES.get(type(leaf), "constant")
            return {"pad": own["padding"], "mode": mode, "value": own.get("value")}
        case "block_rotation":
            return {"signs": cast("BlockRotation", leaf).signs}
        case "channel_balance":
            return {"shift": leaf.shift, "gain": leaf.gain}
        case "batch_norm":
            return {"eps": own["eps"]}
        case "layer_norm":
            return {"normalized_shape": own["normalized_shape"], "eps": own["eps"]}
        case _ if name.startswith("conv"):
            if own["padding_mode"] != "zeros":
                raise UnsupportedCallError("a padding of a convolution that is not of zeros")
            unused = {"in_channels", "out_channels", "kernel_size", "bias", "padding_mode"}
            return {key: value for key, value in own.items() if key not in unused}
        case _:
            return {**own}

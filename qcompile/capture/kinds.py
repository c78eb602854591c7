"""The one table from an operation to the kind that a recipe selects it by.

An operation that is absent, or whose entry is ``None``, cannot be selected.
"""

from collections.abc import Mapping
from types import MappingProxyType

from torch import fx, nn

from qcompile.capture.balance import ChannelBalance
from qcompile.capture.operations import bare_name
from qcompile.capture.rotation import BlockRotation
from qcompile.compat.submodules import module_at
from qcompile.policy.site import Kind

_MODULES: tuple[tuple[Kind | None, tuple[type[nn.Module], ...]], ...] = (
    (
        Kind.CONV,
        (
            nn.Conv1d,
            nn.Conv2d,
            nn.Conv3d,
            nn.ConvTranspose1d,
            nn.ConvTranspose2d,
            nn.ConvTranspose3d,
        ),
    ),
    (Kind.LINEAR, (nn.Linear,)),
    (Kind.EMBEDDING, (nn.Embedding,)),
    (
        Kind.NORM,
        (
            nn.BatchNorm1d,
            nn.BatchNorm2d,
            nn.BatchNorm3d,
            nn.InstanceNorm1d,
            nn.InstanceNorm2d,
            nn.InstanceNorm3d,
            nn.LayerNorm,
            nn.GroupNorm,
            nn.RMSNorm,
        ),
    ),
    (Kind.SOFTMAX, (nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax)),
    (
        Kind.ACTIVATION,
        (
            nn.ReLU,
            nn.ReLU6,
            nn.LeakyReLU,
            nn.ELU,
            nn.CELU,
            nn.SELU,
            nn.GELU,
            nn.SiLU,
            nn.Mish,
            nn.Sigmoid,
            nn.Tanh,
            nn.Softplus,
            nn.Softsign,
            nn.Softshrink,
            nn.Hardshrink,
            nn.Hardsigmoid,
            nn.Hardswish,
            nn.Hardtanh,
            nn.LogSigmoid,
            nn.Tanhshrink,
            nn.Threshold,
            nn.GLU,
        ),
    ),
    (
        Kind.POOL,
        (
            nn.MaxPool1d,
            nn.MaxPool2d,
            nn.MaxPool3d,
            nn.AvgPool1d,
            nn.AvgPool2d,
            nn.AvgPool3d,
            nn.AdaptiveAvgPool1d,
            nn.AdaptiveAvgPool2d,
            nn.AdaptiveAvgPool3d,
            nn.AdaptiveMaxPool1d,
            nn.AdaptiveMaxPool2d,
            nn.AdaptiveMaxPool3d,
        ),
    ),
    (
        None,
        (
            nn.Identity,
            nn.Dropout,
            nn.Dropout1d,
            nn.Dropout2d,
            nn.Dropout3d,
            nn.AlphaDropout,
            nn.FeatureAlphaDropout,
            nn.Flatten,
            nn.Unflatten,
            nn.Upsample,
            nn.PixelShuffle,
            nn.PixelUnshuffle,
            nn.ZeroPad1d,
            nn.ZeroPad2d,
            nn.ZeroPad3d,
            nn.ConstantPad1d,
            nn.ConstantPad2d,
            nn.ConstantPad3d,
            nn.ReflectionPad1d,
            nn.ReflectionPad2d,
            nn.ReflectionPad3d,
            nn.ReplicationPad1d,
            nn.ReplicationPad2d,
            nn.ReplicationPad3d,
            BlockRotation,
            ChannelBalance,
        ),
    ),
)

_FUNCTIONS: tuple[tuple[Kind, str], ...] = (
    (Kind.CONV, "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"),
    (Kind.LINEAR, "linear"),
    (Kind.MATMUL, "matmul mm bmm addmm baddbmm einsum grouped_mm"),
    (Kind.ATTENTION, "scaled_dot_product_attention"),
    (Kind.EMBEDDING, "embedding"),
    (Kind.NORM, "batch_norm instance_norm layer_norm group_norm rms_norm"),
    (Kind.SOFTMAX, "softmax log_softmax softmin"),
    (
        Kind.ACTIVATION,
        "relu relu6 leaky_relu elu celu selu gelu silu mish sigmoid tanh softplus softsign "
        "softshrink hardshrink hardsigmoid hardswish hardtanh logsigmoid tanhshrink threshold "
        "glu prelu",
    ),
    (Kind.ADD, "add sub rsub"),
    (Kind.MUL, "mul multiply"),
    (Kind.CONCAT, "cat concat concatenate"),
    (
        Kind.POOL,
        "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d "
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
        "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d",
    ),
)

MODULE_KINDS: Mapping[type[nn.Module], Kind | None] = MappingProxyType(
    {cls: kind for kind, classes in _MODULES for cls in classes}
)
FUNCTION_KINDS: Mapping[str, Kind] = MappingProxyType(
    {name: kind for kind, names in _FUNCTIONS for name in names.split()}
)

STRUCTURAL: frozenset[str] = frozenset(
    {
        "getitem",
        "getattr",
        "view",
        "view_as",
        "reshape",
        "reshape_as",
        "flatten",
        "unflatten",
        "transpose",
        "permute",
        "movedim",
        "swapaxes",
        "t",
        "squeeze",
        "unsqueeze",
        "expand",
        "expand_as",
        "unbind",
        "split",
        "chunk",
        "tensor_split",
        "narrow",
        "select",
        "diagonal",
        "unfold",
        "size",
        "contiguous",
        "detach",
        "to",
    }
)
"""Functions that pass values on without computing; the result may alias the input."""

STRUCTURAL_MODULES: tuple[type[nn.Module], ...] = (nn.Identity, nn.Flatten, nn.Unflatten)


def kind_of(node: fx.Node, module: nn.Module) -> Kind | None:
    """By the table alone; ``capture.sites`` refines a matrix product with a parameter to linear."""
    match node.op:
        case "call_module":
            return MODULE_KINDS.get(type(module_at(module, str(node.target))))
        case "call_function" | "call_method":
            return FUNCTION_KINDS.get(bare_name(node))
        case _:
            return None


def is_structural(node: fx.Node, module: nn.Module) -> bool:
    if node.op == "call_module":
        return isinstance(module_at(module, str(node.target)), STRUCTURAL_MODULES)
    return node.op in {"call_function", "call_method"} and bare_name(node) in STRUCTURAL

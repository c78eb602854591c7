"""The modules that stay whole in a captured graph, and how to build each of them again.

A leaf is a module whose exact class is in this table. Everything else is entered down to torch
operations, so that a stored graph never needs the code of the user.
"""

from collections.abc import Mapping, Sequence
from inspect import signature
from types import MappingProxyType
from typing import TypeAlias, cast

from torch import nn

from qcompile.capture.balance import ChannelBalance
from qcompile.capture.rotation import BlockRotation
from qcompile.compat.module_calls import has_hooks

JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | None
Arguments: TypeAlias = tuple[str, ...]

_CONV: Arguments = (
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "bias",
    "padding_mode",
)
_CONV_TRANSPOSE: Arguments = (*_CONV, "output_padding")
_BATCH_NORM: Arguments = (
    "num_features",
    "eps",
    "momentum",
    "affine",
    "track_running_stats",
    "bias",
)
_MAX_POOL: Arguments = (
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "return_indices",
    "ceil_mode",
)
_AVG_POOL_1D: Arguments = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
_AVG_POOL: Arguments = (*_AVG_POOL_1D, "divisor_override")
_ADAPTIVE_MAX: Arguments = ("output_size", "return_indices")
_DROPOUT: Arguments = ("p", "inplace")
_UPSAMPLE: Arguments = (
    "size",
    "scale_factor",
    "mode",
    "align_corners",
    "recompute_scale_factor",
)
_EMBEDDING: Arguments = (
    "num_embeddings",
    "embedding_dim",
    "padding_idx",
    "max_norm",
    "norm_type",
    "scale_grad_by_freq",
    "sparse",
)

LEAVES: Mapping[type[nn.Module], Arguments] = MappingProxyType(
    {
        nn.Linear: ("in_features", "out_features", "bias"),
        nn.Conv1d: _CONV,
        nn.Conv2d: _CONV,
        nn.Conv3d: _CONV,
        nn.ConvTranspose1d: _CONV_TRANSPOSE,
        nn.ConvTranspose2d: _CONV_TRANSPOSE,
        nn.ConvTranspose3d: _CONV_TRANSPOSE,
        nn.Embedding: _EMBEDDING,
        nn.BatchNorm1d: _BATCH_NORM,
        nn.BatchNorm2d: _BATCH_NORM,
        nn.BatchNorm3d: _BATCH_NORM,
        nn.InstanceNorm1d: _BATCH_NORM,
        nn.InstanceNorm2d: _BATCH_NORM,
        nn.InstanceNorm3d: _BATCH_NORM,
        nn.LayerNorm: ("normalized_shape", "eps", "elementwise_affine", "bias"),
        nn.GroupNorm: ("num_groups", "num_channels", "eps", "affine", "bias"),
        nn.RMSNorm: ("normalized_shape", "eps", "elementwise_affine"),
        nn.ReLU: ("inplace",),
        nn.ReLU6: ("inplace",),
        nn.LeakyReLU: ("negative_slope", "inplace"),
        nn.ELU: ("alpha", "inplace"),
        nn.CELU: ("alpha", "inplace"),
        nn.SELU: ("inplace",),
        nn.GELU: ("approximate",),
        nn.SiLU: ("inplace",),
        nn.Mish: ("inplace",),
        nn.Sigmoid: (),
        nn.Tanh: (),
        nn.Softplus: ("beta", "threshold"),
        nn.Softsign: (),
        nn.Softshrink: ("lambd",),
        nn.Hardshrink: ("lambd",),
        nn.Hardsigmoid: ("inplace",),
        nn.Hardswish: ("inplace",),
        nn.Hardtanh: ("min_val", "max_val", "inplace"),
        nn.LogSigmoid: (),
        nn.Tanhshrink: (),
        nn.Threshold: ("threshold", "value", "inplace"),
        nn.GLU: ("dim",),
        nn.Softmax: ("dim",),
        nn.Softmax2d: (),
        nn.Softmin: ("dim",),
        nn.LogSoftmax: ("dim",),
        nn.MaxPool1d: _MAX_POOL,
        nn.MaxPool2d: _MAX_POOL,
        nn.MaxPool3d: _MAX_POOL,
        nn.AvgPool1d: _AVG_POOL_1D,
        nn.AvgPool2d: _AVG_POOL,
        nn.AvgPool3d: _AVG_POOL,
        nn.AdaptiveAvgPool1d: ("output_size",),
        nn.AdaptiveAvgPool2d: ("output_size",),
        nn.AdaptiveAvgPool3d: ("output_size",),
        nn.AdaptiveMaxPool1d: _ADAPTIVE_MAX,
        nn.AdaptiveMaxPool2d: _ADAPTIVE_MAX,
        nn.AdaptiveMaxPool3d: _ADAPTIVE_MAX,
        nn.Identity: (),
        nn.Dropout: _DROPOUT,
        nn.Dropout1d: _DROPOUT,
        nn.Dropout2d: _DROPOUT,
        nn.Dropout3d: _DROPOUT,
        nn.AlphaDropout: _DROPOUT,
        nn.FeatureAlphaDropout: _DROPOUT,
        nn.Flatten: ("start_dim", "end_dim"),
        nn.Unflatten: ("dim", "unflattened_size"),
        nn.Upsample: _UPSAMPLE,
        nn.PixelShuffle: ("upscale_factor",),
        nn.PixelUnshuffle: ("downscale_factor",),
        nn.ZeroPad1d: ("padding",),
        nn.ZeroPad2d: ("padding",),
        nn.ZeroPad3d: ("padding",),
        nn.ConstantPad1d: ("padding", "value"),
        nn.ConstantPad2d: ("padding", "value"),
        nn.ConstantPad3d: ("padding", "value"),
        nn.ReflectionPad1d: ("padding",),
        nn.ReflectionPad2d: ("padding",),
        nn.ReflectionPad3d: ("padding",),
        nn.ReplicationPad1d: ("padding",),
        nn.ReplicationPad2d: ("padding",),
        nn.ReplicationPad3d: ("padding",),
        BlockRotation: ("features", "block"),
        ChannelBalance: ("features",),
    }
)
"""Class to the constructor arguments, which are attributes of the instance by the same name."""

OWN = (BlockRotation, ChannelBalance)
"""Classes of this package, not of torch."""

DROPOUTS: tuple[type[nn.Module], ...] = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


def class_name(kind: type[nn.Module]) -> str:
    """Under which an artifact names a class of the table."""
    home = "qcompile" if kind in OWN else "torch.nn"
    return f"{home}.{kind.__name__}"


def is_leaf(module: nn.Module) -> bool:
    """A module with hooks is entered, since its ``forward`` is not the whole story."""
    return type(module) in LEAVES and not has_hooks(module)


def constructor_arguments(module: nn.Module) -> dict[str, JsonValue]:
    """Arguments that ``build_leaf`` needs to make a module like this one, weights aside."""
    accepted = signature(type(module)).parameters
    return {name: _argument(module, name) for name in LEAVES[type(module)] if name in accepted}


def build_leaf(
    kind: type[nn.Module], arguments: Mapping[str, JsonValue], device: str = "meta"
) -> nn.Module:
    """The module in eval mode; on the default device its weights exist in shape only."""
    given = {name: _as_tuple(value) for name, value in arguments.items()}
    if "device" in signature(kind).parameters:
        return kind(**given, device=device).eval()
    return kind(**given).eval()


def _argument(module: nn.Module, name: str) -> JsonValue:
    value = cast("object", getattr(module, name))
    if name == "bias":
        return value is not None
    return _as_json(value)


def _as_json(value: object) -> JsonValue:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_as_json(item) for item in cast("Sequence[object]", value)]
    return cast("JsonValue", value)


def _as_tuple(value: JsonValue) -> object:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value

"""The closed vocabulary of a stored graph: what is not named here is neither written nor read.

Every name is a pure function of its arguments or writes in place to a tensor it was given; none
reaches a file, a network, an import, a random generator or Python's own machinery. Loading looks
names up in tables that are built from these literals; no name from a file is ever imported.
"""

import builtins
import math
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from qcompile.capture.leaves import LEAVES, class_name

Function = Callable[..., object]

# fmt: off
TORCH: tuple[str, ...] = (
    "abs", "absolute", "acos", "acosh", "adaptive_avg_pool1d", "adaptive_max_pool1d", "add",
    "addbmm", "addcdiv", "addcmul", "addmm", "addmv", "addr", "adjoint",
    "affine_grid_generator", "all", "alpha_dropout", "amax", "amin", "aminmax", "angle", "any",
    "arange", "arccos", "arcsin", "arctan", "arctan2", "argmax", "argmin", "argsort",
    "argwhere", "as_strided", "as_tensor", "asin", "asinh", "atan", "atan2", "atanh",
    "atleast_1d", "atleast_2d", "atleast_3d", "avg_pool1d", "baddbmm", "batch_norm", "bilinear",
    "bincount", "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or",
    "bitwise_right_shift", "bitwise_xor", "block_diag", "bmm", "broadcast_shapes",
    "broadcast_tensors", "broadcast_to", "bucketize", "cartesian_prod", "cat", "cdist", "ceil",
    "celu", "celu_", "channel_shuffle", "chunk", "clamp", "clamp_max", "clamp_min", "clip",
    "clone", "column_stack", "complex", "concat", "concatenate", "conj", "conj_physical",
    "constant_pad_nd", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "copysign", "cos", "cosh", "cosine_similarity", "count_nonzero",
    "cross", "cummax", "cummin", "cumprod", "cumsum", "deg2rad", "detach", "diag", "diag_embed",
    "diagflat", "diagonal", "diagonal_scatter", "diff", "dist", "div", "divide", "dot",
    "dropout", "dropout_", "dsplit", "dstack", "einsum", "embedding", "eq", "erf", "erfc",
    "erfinv", "exp", "exp2", "expm1", "eye", "feature_alpha_dropout", "feature_dropout", "fix",
    "flatten", "flip", "fliplr", "flipud", "float_power", "floor", "floor_divide", "fmax",
    "fmin", "fmod", "frac", "frobenius_norm", "full", "full_like", "gather", "ge", "greater",
    "greater_equal", "grid_sampler", "group_norm", "gt", "hardshrink", "heaviside", "histc",
    "hsplit", "hstack", "hypot", "imag", "index_add", "index_copy", "index_fill", "index_put",
    "index_reduce", "index_select", "inner", "instance_norm", "is_tensor", "isclose",
    "isfinite", "isin", "isinf", "isnan", "isneginf", "isposinf", "isreal", "kron", "kthvalue",
    "layer_norm", "ldexp", "le", "lerp", "less", "less_equal", "lgamma", "linspace", "log",
    "log10", "log1p", "log2", "log_softmax", "logaddexp", "logaddexp2", "logcumsumexp",
    "logical_and", "logical_not", "logical_or", "logical_xor", "logit", "logsumexp", "lt",
    "masked_fill", "masked_scatter", "masked_select", "matmul", "max", "max_pool1d",
    "max_pool2d", "max_pool3d", "maximum", "mean", "median", "meshgrid", "min", "minimum", "mm",
    "mode", "moveaxis", "movedim", "msort", "mul", "multiply", "mv", "nan_to_num", "nanmean",
    "nanmedian", "nansum", "narrow", "native_channel_shuffle", "native_dropout",
    "native_group_norm", "native_layer_norm", "ne", "neg", "negative", "nonzero", "norm",
    "not_equal", "numel", "ones", "ones_like", "outer", "pairwise_distance", "permute",
    "pixel_shuffle", "pixel_unshuffle", "polar", "positive", "pow", "prelu", "prod", "quantile",
    "rad2deg", "ravel", "real", "reciprocal", "relu", "relu_", "remainder", "repeat_interleave",
    "reshape", "rms_norm", "roll", "rot90", "round", "rrelu", "rsqrt", "rsub", "scalar_tensor",
    "scatter", "scatter_add", "scatter_reduce", "searchsorted", "select", "select_scatter",
    "selu", "selu_", "sgn", "sigmoid", "sign", "signbit", "sin", "sinc", "sinh",
    "slice_scatter", "softmax", "sort", "split", "split_with_sizes", "sqrt", "square",
    "squeeze", "stack", "std", "std_mean", "sub", "subtract", "sum", "swapaxes", "swapdims",
    "sym_float", "sym_int", "sym_ite", "sym_max", "sym_min", "sym_not", "sym_sqrt", "sym_sum",
    "t", "take", "take_along_dim", "tan", "tanh", "tensor", "tensor_split", "tensordot",
    "threshold", "threshold_", "tile", "topk", "trace", "transpose", "tril", "tril_indices",
    "triu", "triu_indices", "true_divide", "trunc", "unbind", "unflatten", "unique",
    "unique_consecutive", "unsqueeze", "var", "var_mean", "vdot", "view_as_complex",
    "view_as_real", "vsplit", "vstack", "where", "xlogy", "zeros", "zeros_like",
)

FUNCTIONAL: tuple[str, ...] = (
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices", "adaptive_max_pool2d",
    "adaptive_max_pool2d_with_indices", "adaptive_max_pool3d",
    "adaptive_max_pool3d_with_indices", "affine_grid", "alpha_dropout", "avg_pool1d",
    "avg_pool2d", "avg_pool3d", "batch_norm", "bilinear", "celu", "celu_", "channel_shuffle",
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "cosine_similarity", "dropout", "dropout1d", "dropout2d", "dropout3d", "elu", "elu_",
    "embedding", "embedding_bag", "feature_alpha_dropout", "fold", "gelu", "glu", "grid_sample",
    "group_norm", "grouped_mm", "hardshrink", "hardsigmoid", "hardswish", "hardtanh",
    "hardtanh_", "instance_norm", "interpolate", "layer_norm", "leaky_relu", "leaky_relu_",
    "linear", "local_response_norm", "log_softmax", "logsigmoid", "lp_pool1d", "lp_pool2d",
    "lp_pool3d", "max_pool1d", "max_pool1d_with_indices", "max_pool2d",
    "max_pool2d_with_indices", "max_pool3d", "max_pool3d_with_indices", "max_unpool1d",
    "max_unpool2d", "max_unpool3d", "mish", "normalize", "one_hot", "pad", "pairwise_distance",
    "pdist", "pixel_shuffle", "pixel_unshuffle", "prelu", "relu", "relu6", "relu_", "rms_norm",
    "rrelu_", "scaled_dot_product_attention", "selu", "selu_", "sigmoid", "silu", "softmax",
    "softmin", "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold",
    "threshold_", "unfold", "upsample", "upsample_bilinear", "upsample_nearest",
)

OPERATOR: tuple[str, ...] = (
    "abs", "add", "and_", "contains", "eq", "floordiv", "ge", "getitem", "gt", "iadd", "iand",
    "ifloordiv", "ilshift", "imatmul", "imod", "imul", "index", "inv", "invert", "ior", "ipow",
    "irshift", "isub", "itruediv", "ixor", "le", "lshift", "lt", "matmul", "mod", "mul", "ne",
    "neg", "not_", "or_", "pos", "pow", "rshift", "setitem", "sub", "truediv", "truth", "xor",
)

MATH: tuple[str, ...] = (
    "ceil", "exp", "floor", "log", "log2", "pow", "sqrt", "trunc",
)

BUILTINS: tuple[str, ...] = (
    "abs", "bool", "float", "getattr", "int", "len", "max", "min", "pow", "round",
)

METHODS: tuple[str, ...] = (
    "abs", "absolute", "acos", "acosh", "add", "addbmm", "addcdiv", "addcmul", "addmm", "addmv",
    "addr", "all", "amax", "amin", "aminmax", "angle", "any", "arccos", "arcsin", "arctan",
    "arctan2", "argmax", "argmin", "argsort", "argwhere", "as_strided", "asin", "asinh", "atan",
    "atan2", "atanh", "baddbmm", "bfloat16", "bincount", "bitwise_and", "bitwise_left_shift",
    "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "bmm", "bool",
    "broadcast_to", "byte", "ceil", "char", "chunk", "clamp", "clamp_max", "clamp_min", "clip",
    "clone", "conj", "conj_physical", "contiguous", "copysign", "cos", "cosh", "count_nonzero",
    "cpu", "cross", "cummax", "cummin", "cumprod", "cumsum", "deg2rad", "detach", "diag",
    "diag_embed", "diagflat", "diagonal", "diagonal_scatter", "diff", "dim", "dist", "div",
    "divide", "dot", "double", "dsplit", "element_size", "eq", "erf", "erfc", "erfinv", "exp",
    "exp2", "expand", "expand_as", "expm1", "fix", "flatten", "flip", "fliplr", "flipud",
    "float", "float_power", "floor", "floor_divide", "fmax", "fmin", "fmod", "frac", "gather",
    "ge", "greater", "greater_equal", "gt", "half", "heaviside", "hsplit", "hypot", "imag",
    "index_add", "index_copy", "index_fill", "index_put", "index_reduce", "index_select",
    "inner", "int", "is_complex", "is_contiguous", "is_floating_point", "is_nonzero", "isclose",
    "isfinite", "isinf", "isnan", "isneginf", "isposinf", "isreal", "item", "kron", "kthvalue",
    "ldexp", "le", "lerp", "less", "less_equal", "lgamma", "log", "log10", "log1p", "log2",
    "log_softmax", "logaddexp", "logaddexp2", "logcumsumexp", "logical_and", "logical_not",
    "logical_or", "logical_xor", "logit", "logsumexp", "long", "lt", "masked_fill",
    "masked_scatter", "masked_select", "matmul", "max", "maximum", "mean", "median", "min",
    "minimum", "mm", "mode", "moveaxis", "movedim", "msort", "mul", "multiply", "mv",
    "nan_to_num", "nanmean", "nanmedian", "nansum", "narrow", "ndimension", "ne", "neg",
    "negative", "nelement", "new_full", "new_ones", "new_tensor", "new_zeros", "nonzero",
    "norm", "not_equal", "numel", "outer", "permute", "positive", "pow", "prelu", "prod",
    "quantile", "rad2deg", "ravel", "real", "reciprocal", "relu", "remainder", "repeat",
    "repeat_interleave", "reshape", "reshape_as", "roll", "rot90", "round", "rsqrt", "scatter",
    "scatter_add", "scatter_reduce", "select", "select_scatter", "sgn", "short", "sigmoid",
    "sign", "signbit", "sin", "sinc", "sinh", "size", "slice_scatter", "softmax", "sort",
    "split", "split_with_sizes", "sqrt", "square", "squeeze", "std", "storage_offset", "stride",
    "sub", "subtract", "sum", "swapaxes", "swapdims", "t", "take", "take_along_dim", "tan",
    "tanh", "tensor_split", "tile", "to", "topk", "trace", "transpose", "tril", "triu",
    "true_divide", "trunc", "type", "type_as", "unbind", "unflatten", "unfold", "unique",
    "unique_consecutive", "unsqueeze", "var", "vdot", "view", "view_as", "vsplit", "where",
    "xlogy",
)

IN_PLACE_METHODS: tuple[str, ...] = (
    "abs_", "add_", "addcdiv_", "addcmul_", "addmm_", "baddbmm_", "bitwise_and_",
    "bitwise_not_", "bitwise_or_", "bitwise_xor_", "ceil_", "clamp_", "clamp_max_",
    "clamp_min_", "clip_", "copy_", "cos_", "cumprod_", "cumsum_", "div_", "divide_", "eq_",
    "erf_", "exp_", "expm1_", "fill_", "fill_diagonal_", "floor_", "floor_divide_", "fmod_",
    "frac_", "ge_", "gt_", "index_add_", "index_copy_", "index_fill_", "index_put_", "le_",
    "lerp_", "log1p_", "log2_", "log_", "logical_and_", "logical_not_", "logical_or_",
    "logical_xor_", "lt_", "masked_fill_", "masked_scatter_", "mul_", "multiply_",
    "nan_to_num_", "ne_", "neg_", "pow_", "reciprocal_", "relu_", "remainder_", "round_",
    "rsqrt_", "scatter_", "scatter_add_", "scatter_reduce_", "sigmoid_", "sign_", "sin_",
    "sqrt_", "square_", "squeeze_", "sub_", "subtract_", "tanh_", "transpose_", "tril_",
    "triu_", "true_divide_", "trunc_", "unsqueeze_", "xlogy_", "zero_",
)

ATTRIBUTES: tuple[str, ...] = (
    "H", "T", "data", "device", "dtype", "imag", "is_cuda", "itemsize", "layout", "mH", "mT",
    "nbytes", "ndim", "real", "requires_grad", "shape",
)

DTYPES: tuple[str, ...] = (
    "bfloat16", "bool", "complex64", "float16", "float32", "float64",
    "float8_e4m3fn", "float8_e5m2", "int8", "int16", "int32", "int64", "uint8", "uint16",
    "uint32", "uint64",
)

# fmt: on

MEMORY_FORMATS: tuple[str, ...] = (
    "contiguous_format",
    "preserve_format",
    "channels_last",
    "channels_last_3d",
)
LAYOUTS: tuple[str, ...] = ("strided",)

_HOMES: tuple[tuple[str, ModuleType, tuple[str, ...]], ...] = (
    ("torch", torch, TORCH),
    ("torch.nn.functional", functional, FUNCTIONAL),
    ("operator", operator, OPERATOR),
    ("math", math, MATH),
    ("builtins", builtins, BUILTINS),
)


def _functions() -> dict[str, Function]:
    """Build the table; a name that this version of torch does not have is left out."""
    return {
        f"{home}.{name}": cast("Function", getattr(module, name))
        for home, module, names in _HOMES
        for name in names
        if hasattr(module, name)
    }


FUNCTIONS: Mapping[str, Function] = MappingProxyType(_functions())
"""Stored name to function."""

NAMES: Mapping[Function, str] = MappingProxyType(
    {function: name for name, function in reversed(tuple(FUNCTIONS.items()))}
)
"""Function to stored name; the first where one function has several."""

ALL_METHODS: frozenset[str] = frozenset((*METHODS, *IN_PLACE_METHODS))

LEAF_CLASSES: Mapping[str, type[nn.Module]] = MappingProxyType(
    {class_name(kind): kind for kind in LEAVES}
)

DTYPE_OF: Mapping[str, torch.dtype] = MappingProxyType(
    {name: cast("torch.dtype", getattr(torch, name)) for name in DTYPES if hasattr(torch, name)}
)


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

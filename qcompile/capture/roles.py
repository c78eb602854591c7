"""The one table from an operation to what it does to the grid of the values that it reads.

Operations are known by their bare name, so that ``cat``, ``concat`` and ``Tensor.add_`` need one
entry whatever way a model writes them. What is absent is unknown, and said to be.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import cast

from torch import fx, nn

from qcompile.capture.kinds import FUNCTION_KINDS, MODULE_KINDS, STRUCTURAL
from qcompile.capture.leaves import DROPOUTS
from qcompile.capture.node_meta import facts
from qcompile.capture.operands import activations, argument
from qcompile.capture.operations import bare_name
from qcompile.compat.submodules import module_at


class Role(Enum):
    PASS = "pass"
    """The result holds values of the first tensor, none of them new: its grid still fits."""
    MERGE = "merge"
    """The result holds values of several tensors, none of them new: all are on one grid."""
    ADD = "add"
    """Codes are added, so that the operands are on one grid; the sum is on a wider one."""
    COMPUTE = "compute"
    """The result has a grid of its own."""


_ROLES: tuple[tuple[Role, str], ...] = (
    (
        Role.PASS,
        "repeat repeat_interleave tile flip fliplr flipud roll rot90 clone float half bfloat16 "
        "double type type_as swapdims moveaxis adjoint broadcast_to hsplit vsplit dsplit "
        "split_with_sizes unsafe_split unsafe_chunk index_select gather take take_along_dim "
        "masked_select as_strided tril triu diag pixel_shuffle pixel_unshuffle channel_shuffle "
        "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d "
        "adaptive_max_pool3d amax amin sort topk kthvalue median dropout dropout1d dropout2d "
        "dropout3d alpha_dropout feature_alpha_dropout feature_dropout identity requires_grad "
        "pad interpolate upsample",
    ),
    (
        Role.MERGE,
        "cat concat concatenate stack hstack vstack dstack row_stack column_stack where maximum "
        "minimum fmax fmin setitem copy index_copy index_put scatter masked_scatter block_diag",
    ),
    (Role.ADD, "add sub subtract rsub index_add scatter_add"),
    (
        Role.COMPUTE,
        "mul multiply div divide truediv true_divide floordiv floor_divide mod remainder fmod pow "
        "neg negative pos abs exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square reciprocal "
        "sin cos tan asin acos atan atan2 sinh cosh erf erfc sign round floor ceil trunc frac "
        "clamp clamp_min clamp_max clip hardtanh sum nansum mean nanmean var std var_mean std_mean "
        "norm vector_norm matrix_norm normalize logsumexp prod cumsum cumprod cummax cummin "
        "logcumsumexp max min masked_fill fill zero addmm addbmm addmv addr addcmul addcdiv lerp "
        "baddbmm chain_matmul dot inner outer kron cross tensordot mv vdot bilinear "
        "cosine_similarity pairwise_distance cdist grid_sample affine_grid fold lp_pool1d "
        "lp_pool2d local_response_norm embedding_bag one_hot zeros_like ones_like full_like "
        "empty_like new_zeros new_ones new_full "
        "new_empty zeros ones full arange linspace eye tensor histc "
        "rand_like randn_like bernoulli nan_to_num logit logaddexp logaddexp2 hypot "
        "heaviside xlogy polar view_as_complex view_as_real rfft irfft fft ifft fft2 ifft2 rfft2 "
        "irfft2 eq ne lt le gt ge and or xor invert isnan isinf isfinite argmax argmin argsort "
        "all any logical_and logical_or logical_not logical_xor softmax2d cross_entropy mse_loss "
        "multi_head_attention_forward",
    ),
)

ROLES: Mapping[str, Role] = MappingProxyType(
    dict.fromkeys(FUNCTION_KINDS, Role.COMPUTE)
    | dict.fromkeys(STRUCTURAL, Role.PASS)
    | {name: role for role, names in _ROLES for name in names.split()}
)

_PASSING_MODULES: tuple[type[nn.Module], ...] = (
    *DROPOUTS,
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ReflectionPad1d,
    nn.ReflectionPad2d,
    nn.ReflectionPad3d,
    nn.ReplicationPad1d,
    nn.ReplicationPad2d,
    nn.ReplicationPad3d,
    nn.ZeroPad1d,
    nn.ZeroPad2d,
    nn.ZeroPad3d,
)
MODULE_ROLES: Mapping[type[nn.Module], Role] = MappingProxyType(
    dict.fromkeys(MODULE_KINDS, Role.COMPUTE) | dict.fromkeys(_PASSING_MODULES, Role.PASS)
)

_EXTREMES = ("max", "min")
_RESAMPLING = ("interpolate", "upsample")


def role_of(node: fx.Node, module: nn.Module) -> Role | None:
    """``None``: the operation is not in the table."""
    match node.op:
        case "call_module":
            leaf = module_at(module, str(node.target))
            known = MODULE_ROLES.get(type(leaf))
            return Role.PASS if isinstance(leaf, nn.Upsample) and _keeps(leaf.mode) else known
        case "call_function" | "call_method":
            return _of_function(node, module)
        case _:
            return Role.COMPUTE


def _of_function(node: fx.Node, module: nn.Module) -> Role | None:
    """The table, except where an argument decides."""
    name = bare_name(node)
    if name == "pad":
        mode = argument(node, (2, "mode")) or "constant"
        fills = mode == "constant" and bool(argument(node, (3, "value")))
        return Role.COMPUTE if fills else Role.PASS
    if name in _RESAMPLING:
        mode = argument(node, (3, "mode")) or "nearest"
        return Role.PASS if _keeps(cast("str", mode)) else Role.COMPUTE
    if name in _EXTREMES:
        # of two tensors, element by element, or of one along an axis
        return Role.MERGE if len(activations(node, module)) > 1 else Role.PASS
    role = ROLES.get(name)
    if role is Role.ADD and node.kwargs.get("alpha", 1) != 1:
        return Role.COMPUTE
    return role


def _keeps(mode: str) -> bool:
    return mode.startswith("nearest")


def carries(node: fx.Node) -> bool:
    """A floating-point tensor that depends on the input, or a tuple that may hold some."""
    known = facts(node)
    if node.op in {"get_attr", "output"} or known.hoisted:
        return False
    return known.is_float or not known.is_tensor

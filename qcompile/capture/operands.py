"""Which inputs of a node are weight, bias and activations."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from torch import fx, nn

from qcompile.capture.kinds import kind_of
from qcompile.capture.node_meta import facts
from qcompile.capture.operations import bare_name
from qcompile.compat.submodules import module_at
from qcompile.policy.site import Kind

WITH_WEIGHTS: tuple[Kind, ...] = (Kind.CONV, Kind.LINEAR, Kind.EMBEDDING, Kind.NORM)
ATTENTION_OPERANDS: tuple[tuple[int, str], ...] = ((0, "query"), (1, "key"), (2, "value"))
"""Position and keyword; the mask after them is no operand."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Position and keyword of weight and bias of a function."""

    weight: tuple[int, str]
    bias: tuple[int, str] | None = None
    output_axis: int = 0


_CONV = Signature((1, "weight"), (2, "bias"))
_CONV_TRANSPOSE = Signature((1, "weight"), (2, "bias"), output_axis=1)
_AFTER_SHAPE = Signature((2, "weight"), (3, "bias"))
_AFTER_STATISTICS = Signature((3, "weight"), (4, "bias"))

SIGNATURES: Mapping[str, Signature] = MappingProxyType(
    {
        "linear": Signature((1, "weight"), (2, "bias")),
        "conv1d": _CONV,
        "conv2d": _CONV,
        "conv3d": _CONV,
        "conv_transpose1d": _CONV_TRANSPOSE,
        "conv_transpose2d": _CONV_TRANSPOSE,
        "conv_transpose3d": _CONV_TRANSPOSE,
        "embedding": Signature((1, "weight")),
        "addmm": Signature((2, "mat2"), (0, "input"), output_axis=-1),
        "matmul": Signature((1, "other"), output_axis=-1),
        "mm": Signature((1, "mat2"), output_axis=-1),
        "bmm": Signature((1, "mat2"), output_axis=-1),
        "layer_norm": _AFTER_SHAPE,
        "group_norm": _AFTER_SHAPE,
        "rms_norm": Signature((2, "weight")),
        "batch_norm": _AFTER_STATISTICS,
        "instance_norm": _AFTER_STATISTICS,
    }
)


@dataclass(frozen=True, slots=True)
class Weights:
    """Parameters of one node by path; ``output_axis`` is not negative."""

    weight: str | None = None
    bias: str | None = None
    output_axis: int = 0


def weights_of(node: fx.Node, module: nn.Module) -> Weights:
    """Nothing for a node that no parameter belongs to."""
    if node.op == "call_module":
        return _of_module(node, module)
    signature = SIGNATURES.get(bare_name(node))
    if signature is None:
        return Weights()
    weight = _parameter(node, signature.weight, module)
    if weight is None:
        return Weights()
    dimensions = module.get_parameter(weight).dim()
    bias = _parameter(node, signature.bias, module) if signature.bias else None
    return Weights(weight, bias, signature.output_axis % dimensions)


def site_kind(node: fx.Node, module: nn.Module) -> Kind | None:
    """The kind of ``node``; a product with a parameter of the model is a linear layer."""
    kind = kind_of(node, module)
    if kind is Kind.MATMUL and weights_of(node, module).weight is not None:
        return Kind.LINEAR
    return kind


def activations(node: fx.Node, module: nn.Module) -> tuple[fx.Node, ...]:
    """Floating-point tensors that the node reads and that depend on the input, each once."""
    inputs = node.all_input_nodes
    if kind_of(node, module) is Kind.ATTENTION:
        given = (argument(node, place) for place in ATTENTION_OPERANDS)
        inputs = list(dict.fromkeys(one for one in given if isinstance(one, fx.Node)))
    return tuple(item for item in inputs if item.op != "get_attr" and facts(item).is_float)


def argument(node: fx.Node, place: tuple[int, str]) -> object:
    """The argument at a position, or given by keyword."""
    position, keyword = place
    if position < len(node.args):
        return node.args[position]
    return node.kwargs.get(keyword)


def _of_module(node: fx.Node, module: nn.Module) -> Weights:
    if kind_of(node, module) not in WITH_WEIGHTS:
        return Weights()
    path = str(node.target)
    leaf = module_at(module, path)
    names = {name for name, _ in leaf.named_parameters(recurse=False)}
    is_transposed = isinstance(leaf, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    return Weights(
        f"{path}.weight" if "weight" in names else None,
        f"{path}.bias" if "bias" in names else None,
        1 if is_transposed else 0,
    )


def _parameter(node: fx.Node, place: tuple[int, str], module: nn.Module) -> str | None:
    found = argument(node, place)
    if not isinstance(found, fx.Node) or found.op != "get_attr":
        return None
    owner, _, name = str(found.target).rpartition(".")
    tensor = cast("object", getattr(module_at(module, owner), name))
    return str(found.target) if isinstance(tensor, nn.Parameter) else None

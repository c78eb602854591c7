"""Values whose channels can be scaled for nothing: their makers divide, their readers multiply.

For any ``s > 0`` the function stays as it is when the channels of a value are divided by ``s``
where the value is made and the weights that read it are multiplied by ``s`` (arXiv 1906.04721,
2211.10438). That needs every reader to be a product with a weight, the maker to end in a parameter
for each channel, and nobody else to read these parameters.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import fx, nn

from qcompile.capture.kinds import kind_of
from qcompile.capture.node_meta import facts
from qcompile.capture.operands import SIGNATURES, argument, site_kind, weights_of
from qcompile.capture.operations import bare_name, mutates
from qcompile.capture.storages import storages_of
from qcompile.compat.submodules import module_at
from qcompile.policy.site import Kind

Maker = Literal["norm", "layer", "gain"]
LAST = -1
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
POOLS = ("max_pool", "avg_pool", "adaptive_avg_pool")
HOMOGENEOUS = frozenset(
    ("relu", "leaky_relu", "identity", *(f"{pool}{axes}d" for pool in POOLS for axes in (1, 2, 3)))
)
"""``f(x / s) = f(x) / s`` for each channel and ``s > 0``; no channel moves."""
_HOMOGENEOUS_LEAVES = (
    *(nn.ReLU, nn.LeakyReLU, nn.Identity, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)
_MUL = frozenset({"mul", "multiply"})


@dataclass(frozen=True, slots=True)
class Part:
    """A parameter by path, and its axis that counts the channels of the value."""

    path: str
    axis: int


@dataclass(frozen=True, slots=True)
class Reader:
    node: str
    weight: Part
    bias: str | None
    """Path; ``None`` where there is none, or where it is not the reader's alone."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One value between the parameters that may exchange a factor for each of its channels."""

    value: str
    """Name of the node whose result the readers read."""
    axis: int
    """Of the channels in that value: 1 or -1."""
    channels: int
    maker: str
    """Name of the node that ends in the divided parameters."""
    kind: Maker
    divided: tuple[Part, ...]
    offset: str | None
    """Path of the parameter that is added last; ``None`` where something stands between."""
    readers: tuple[Reader, ...]

    @property
    def nodes(self) -> frozenset[str]:
        """Those that give or take a factor."""
        return frozenset({self.maker, *(reader.node for reader in self.readers)})

    @property
    def changed(self) -> tuple[str, ...]:
        """Paths of all parameters that may get new values."""
        biases = [reader.bias for reader in self.readers if self.takes_shift and reader.bias]
        parts = [*self.divided, *(reader.weight for reader in self.readers)]
        return (*(part.path for part in parts), *biases)

    @property
    def takes_shift(self) -> bool:
        """Whether a constant for each channel can be moved as well: no padding lies between."""
        has_biases = all(reader.bias is not None for reader in self.readers)
        return self.offset is not None and has_biases and self.axis == LAST


def exchanges(module: fx.GraphModule) -> tuple[Exchange, ...]:
    """Every one of the graph, in its order."""
    owned = _owned_alone(module)
    found = (_exchange(node, module, owned) for node in module.graph.nodes)
    return tuple(item for item in found if item is not None)


def _exchange(node: fx.Node, module: fx.GraphModule, owned: frozenset[str]) -> Exchange | None:
    if not facts(node).is_float or not node.users:
        return None
    readers: list[Reader] = []
    axes: set[int] = set()
    for user in node.users:
        read = _reader(user, node, module, owned)
        if read is None:
            return None
        axis, reader = read
        axes.add(axis)
        readers.append(reader)
    made = _maker(node, module, owned, is_value=True)
    if made is None or axes != {made.axis}:
        return None
    channels = _size(module, made.divided[0])
    if any(_size(module, reader.weight) != channels for reader in readers):
        return None
    return Exchange(
        value=node.name,
        axis=made.axis,
        channels=channels,
        maker=made.node,
        kind=made.kind,
        divided=made.divided,
        offset=made.offset,
        readers=tuple(readers),
    )


def _reader(
    user: fx.Node, value: fx.Node, module: fx.GraphModule, owned: frozenset[str]
) -> tuple[int, Reader] | None:
    """With the axis of the value that ``user`` sums over, if it does nothing else with it."""
    weights = weights_of(user, module)
    if weights.weight is None or weights.weight not in owned:
        return None
    if not _is_left_operand(value, user):
        return None
    is_plain = not {"alpha", "beta"} & user.kwargs.keys()
    bias = weights.bias if weights.bias in owned and is_plain else None
    if site_kind(user, module) is Kind.LINEAR:
        part = Part(weights.weight, 1 - weights.output_axis)
        is_matrix = module.get_parameter(weights.weight).dim() == 2
        return (LAST, Reader(user.name, part, bias)) if is_matrix else None
    leaf = _leaf(user, module)
    if not isinstance(leaf, CONVOLUTIONS) or not _is_batched(user, leaf):
        return None
    if leaf.groups == 1:
        return 1, Reader(user.name, Part(weights.weight, 1), bias)
    if leaf.groups == leaf.in_channels == leaf.out_channels:
        return 1, Reader(user.name, Part(weights.weight, 0), bias)
    return None


def _is_left_operand(value: fx.Node, user: fx.Node) -> bool:
    """Of the product, and read nowhere else in the call."""
    place = 1 if user.op != "call_module" and bare_name(user) == "addmm" else 0
    if len(user.args) <= place or user.args[place] is not value:
        return False
    others = (*user.args[:place], *user.args[place + 1 :], *user.kwargs.values())
    return value not in others


@dataclass(frozen=True, slots=True)
class _Made:
    node: str
    axis: int
    kind: Maker
    divided: tuple[Part, ...]
    offset: str | None


def _maker(
    node: fx.Node, module: fx.GraphModule, owned: frozenset[str], *, is_value: bool
) -> _Made | None:
    """The parameters that scale ``node``, through what lets a factor pass."""
    if not is_value and len(node.users) != 1:
        return None
    made = _direct(node, module, owned)
    if made is not None:
        return made if all(part.path in owned for part in made.divided) else None
    for before in _passed(node, module):
        found = _maker(before, module, owned, is_value=False)
        if found is not None and _keeps_channels(node, module, found.axis):
            return _Made(found.node, found.axis, found.kind, found.divided, None)
    return None


def _keeps_channels(node: fx.Node, module: fx.GraphModule, axis: int) -> bool:
    """A pool slides over the last axes: the channels must be the one before them."""
    leaf = _leaf(node, module)
    name = bare_name(node) if leaf is None else type(leaf).__name__.lower()
    if "pool" not in name:
        return True
    slides = int(name[-2])  # max_pool2d
    return axis == 1 and len(facts(node).example or ()) == slides + 2


def _passed(node: fx.Node, module: fx.GraphModule) -> Iterator[fx.Node]:
    """Inputs of which ``node`` is a homogeneous function, channel by channel; later ones first.

    In a gated product the later factor is, as models write it, the one that no activation follows.
    """
    inputs = [item for item in node.all_input_nodes if item.op != "get_attr"]
    if node.op == "call_module":
        if isinstance(_leaf(node, module), _HOMOGENEOUS_LEAVES):
            yield from inputs
    elif bare_name(node) in HOMOGENEOUS:
        yield from inputs[:1]
    elif mutates(node, module):  # what it writes to may be read under another name
        return
    elif bare_name(node) in _MUL and len(inputs) == len(node.args) == 2:
        same = [item for item in inputs if facts(item).shape == facts(node).shape]
        yield from reversed(same)


def _direct(node: fx.Node, module: fx.GraphModule, owned: frozenset[str]) -> _Made | None:
    """The parameters that ``node`` itself ends in, if nothing else is added or multiplied."""
    if mutates(node, module):
        return None
    if bare_name(node) in _MUL and node.op != "call_module":
        return _gain(node, module, owned)
    weights = weights_of(node, module)
    if weights.weight is None or _adds_something_else(node, module, weights.bias):
        return None
    parts = [Part(weights.weight, weights.output_axis)]
    if weights.bias is not None:
        parts.append(Part(weights.bias, 0))
    divided = tuple(parts)
    kind = kind_of(node, module)
    if kind is Kind.NORM:
        axis = _norm_axis(node, module, weights.weight)
        return None if axis is None else _Made(node.name, axis, "norm", divided, weights.bias)
    if site_kind(node, module) is Kind.LINEAR and module.get_parameter(weights.weight).dim() == 2:
        return _Made(node.name, LAST, "layer", divided, weights.bias)
    leaf = _leaf(node, module)
    if isinstance(leaf, CONVOLUTIONS) and _is_batched(node, leaf):
        return _Made(node.name, 1, "layer", divided, weights.bias)
    return None


def _adds_something_else(node: fx.Node, module: fx.GraphModule, bias: str | None) -> bool:
    """Whether a function is given a bias that is no parameter with a number for each channel."""
    if bias is not None:
        return module.get_parameter(bias).dim() != 1
    signature = SIGNATURES.get(bare_name(node)) if node.op != "call_module" else None
    place = None if signature is None else signature.bias
    return place is not None and argument(node, place) is not None


def _gain(node: fx.Node, module: fx.GraphModule, owned: frozenset[str]) -> _Made | None:
    """``value * gain`` with one gain for each channel of the last axis: what RMS norms end in."""
    gains = [item for item in node.all_input_nodes if item.op == "get_attr"]
    if len(gains) != 1 or len(node.args) != 2 or node.kwargs:
        return None
    path = str(gains[0].target)
    shape = facts(node).example
    if path not in owned or not shape or module.get_parameter(path).shape != shape[LAST:]:
        return None
    return _Made(node.name, LAST, "gain", (Part(path, 0),), None)


def _norm_axis(node: fx.Node, module: fx.GraphModule, weight: str) -> int | None:
    """``None`` for a norm whose weight is not one number for each channel of one axis."""
    if module.get_parameter(weight).dim() != 1:
        return None
    if node.op == "call_module":
        leaf = _leaf(node, module)
        if not isinstance(leaf, NORMS):
            return None
        return LAST if isinstance(leaf, nn.LayerNorm | nn.RMSNorm) else 1
    return LAST if bare_name(node) in {"layer_norm", "rms_norm"} else None


def _leaf(node: fx.Node, module: fx.GraphModule) -> nn.Module | None:
    return module_at(module, str(node.target)) if node.op == "call_module" else None


def _is_batched(node: fx.Node, leaf: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> bool:
    return len(facts(node).example or ()) == len(leaf.kernel_size) + 2


def _size(module: fx.GraphModule, part: Part) -> int:
    return module.get_parameter(part.path).shape[part.axis]


def _owned_alone(module: fx.GraphModule) -> frozenset[str]:
    """Paths of parameters that have one name and that one node reads."""
    storages = storages_of(module)
    names = Counter(storages.values())
    reads = _reads(module, storages)
    return frozenset(
        path for path, place in storages.items() if names[place] == 1 and reads[place] == 1
    )


def _reads(module: fx.GraphModule, storages: Mapping[str, str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for node in module.graph.nodes:
        path = str(node.target)
        if node.op == "call_module":
            leaf = module_at(module, path)
            found.update(storages[f"{path}.{name}"] for name, _ in leaf.named_parameters())
        elif node.op == "get_attr" and path in storages:
            found[storages[path]] += len(node.users)
    return found

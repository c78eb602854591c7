"""What each export format can hold, as data, and whether a plan asks for more (QR550).

``qcompile plan --for`` and ``qcompile export`` ask the same question, so that a format is refused
before hours are spent, and never half-way through a file.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.policy.core import PlanCore, SitePlan, TensorPlan
from qcompile.policy.number_format import BlockFormat, IntFormat
from qcompile.policy.rotation import ROTATE
from qcompile.policy.scheme import PerChannel, PerGroup, PerTensor, QuantSlot
from qcompile.policy.size import channel_axis


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that a format holds; ``kinds`` are kinds of sites, ``None``: all."""

    grids: frozenset[tuple[int, bool]]
    """Bits, and whether the grid is symmetric."""
    kinds: frozenset[str] | None = None
    modules_only: bool = False
    """Each weight is the ``weight`` of a module of its own."""
    block: int | None = None
    """Scales belong to so many neighbours of a row, so rows and groups are multiples of it."""
    levels: frozenset[str] = frozenset()
    """Formats other than integers, by their names."""


@dataclass(frozen=True, slots=True)
class Activations:
    """Activations that a format holds, beside weights of ``weight_bits``."""

    bits: frozenset[int]
    granularities: frozenset[str]
    weight_bits: frozenset[int]
    levels: frozenset[str] = frozenset()
    """Formats other than integers, beside weights of the same."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Bytes that a file takes beside its tensors, about."""

    each_node: int = 0
    each_quantized: int = 0
    """By tensor: weights and activations."""
    settings: int = 2_000


@dataclass(frozen=True, slots=True)
class Capability:
    """``None`` where a format takes whatever the plan has; ``holds`` says it in words."""

    name: str
    suffix: str
    """Of the file; empty for a directory."""
    holds: str
    beside: Beside = Beside()
    number_kinds: frozenset[str] | None = None
    weights: Weights | None = None
    activations: Activations | None = None
    rotations: bool = True
    """It tells its reader that inputs of a layer are rotated before they meet its weight."""

    def expected_bytes(self, sites: Sequence[SitePlan], tensor_bytes: int, nodes: int) -> int:
        """Of the export of a plan whose graph has so many nodes, before there is one."""
        tensors = [tensor for site in sites for tensor in site.tensors]
        beside = self.beside
        size = tensor_bytes + beside.settings
        size += beside.each_node * nodes + beside.each_quantized * len(tensors)
        if self.weights is None or self.weights.block is None:
            return size
        blocks = sum(prod(tensor.shape) for tensor in tensors if tensor.shape) / self.weights.block
        return size + round(BLOCK_SCALES * blocks)


BLOCK_SCALES = 4
"""Bytes of the scale and the least value of a block, in half precision."""

_BOTH = (True, False)
_ANY_INTEGER = Weights(frozenset((bits, symmetric) for bits in range(2, 9) for symmetric in _BOTH))

CAPABILITIES: tuple[Capability, ...] = (
    Capability(
        "pt2",
        ".pt2",
        "every plan whose graph torch.export takes",
        # a node becomes about four of aten and a quantizer ten, each 800 bytes of JSON
        beside=Beside(each_node=3_300, each_quantized=8_000, settings=30_000),
    ),
    Capability(
        "onnx",
        ".onnx",
        "integer grids of 2 to 8 bits of every granularity; operations with a row in the table",
        beside=Beside(each_node=200, each_quantized=200),
        number_kinds=frozenset({"int"}),
    ),
    Capability(
        "compressed-tensors",
        "",
        "weights of linear layers in 4 or 8 bits, and 8-bit activations, not clipped at run time, "
        "beside 8-bit weights; "
        "fp8_e4m3 for both; weights in mxfp8, mxfp4 and nvfp4 beside float activations",
        number_kinds=frozenset({"int", "minifloat", "block"}),
        weights=Weights(
            frozenset((bits, symmetric) for bits in (4, 8) for symmetric in _BOTH),
            kinds=frozenset({"linear"}),
            modules_only=True,
            levels=frozenset({"fp8_e4m3", "mxfp8", "mxfp4", "nvfp4"}),
        ),
        activations=Activations(
            frozenset({8}),
            frozenset({"per_tensor", "per_token"}),
            frozenset({8}),
            levels=frozenset({"fp8_e4m3"}),  # of blocks, readers find other scales than ours
        ),
        rotations=False,
    ),
    Capability(
        "gguf",
        ".gguf",
        "matrices in Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 (rows and groups in multiples of 32), "
        "float activations",
        number_kinds=frozenset({"int"}),
        weights=Weights(
            frozenset({(8, True), (5, True), (5, False), (4, True), (4, False)}),
            kinds=frozenset({"linear", "embedding"}),
            block=32,
        ),
        activations=Activations(frozenset(), frozenset(), frozenset()),
        rotations=False,
    ),
)
FORMATS: tuple[str, ...] = tuple(capability.name for capability in CAPABILITIES)


def capability_of(name: str) -> Capability | list[Diagnostic]:
    found = next((item for item in CAPABILITIES if item.name == name), None)
    return found or [unknown_format(name)]


def check_plan(core: PlanCore, capability: Capability) -> list[Diagnostic]:
    """One diagnostic for each reason, with the lines of the recipe that led to it."""
    found: dict[str, list[tuple[SitePlan, TensorPlan]]] = defaultdict(list)
    rotated = {item.target for item in core.transforms if item.name == ROTATE}
    for site in core.sites:
        for plan in site.tensors:
            if not capability.rotations and plan.slot == "weight" and site.path in rotated:
                found["a layer whose inputs are rotated"].append((site, plan))
            for reason in _reasons(capability, site, plan):
                found[reason].append((site, plan))
    return [_cannot_hold(capability, reason, cases) for reason, cases in found.items()]


def _reasons(capability: Capability, site: SitePlan, plan: TensorPlan) -> Iterator[str]:
    kinds = capability.number_kinds
    if kinds is not None and plan.spec.format.kind not in kinds:
        yield f"the number format {plan.spec.format}"
    elif plan.slot == "weight" and capability.weights is not None:
        yield from _of_weight(capability.weights, site, plan)
    elif plan.slot != "weight" and capability.activations is not None:
        yield from _of_activation(capability.activations, site, plan.spec)


def _of_weight(weights: Weights, site: SitePlan, plan: TensorPlan) -> Iterator[str]:
    spec = plan.spec
    if weights.kinds is not None and site.kind not in weights.kinds:
        yield f"the quantized weight of a {site.kind}"
        return
    if weights.kinds is not None and not _is_plain_matrix(plan):
        yield "a matrix whose scales do not follow its first axis"
        return
    if weights.modules_only and plan.parameter != plan.storage:
        yield f"a weight that is tied to `{plan.storage}`"
    if weights.modules_only and plan.parameter != f"{site.path}.weight":
        yield "a weight that is not the `weight` of its module"
    if not isinstance(spec.format, IntFormat):
        yield from _of_levels(weights, plan)
    elif (spec.bits, spec.symmetric) not in weights.grids or not (
        spec.symmetric is False or _is_centred(spec)
    ):
        yield f"{_grid(spec)} weights"
    if weights.block is not None and not _in_blocks(plan, weights.block):
        row = plan.shape[-1]
        yield f"{spec.granularity} scales of rows of {row}, which are no blocks of {weights.block}"


def _of_levels(weights: Weights, plan: TensorPlan) -> Iterator[str]:
    number, granularity = plan.spec.format, plan.spec.granularity
    if str(number) not in weights.levels:
        yield f"the number format {number}"
    elif not isinstance(number, BlockFormat) and isinstance(granularity, PerGroup):
        yield f"{granularity} scales of {number} weights"


def _of_activation(activations: Activations, site: SitePlan, spec: QuantSlot) -> Iterator[str]:
    if not activations.bits:
        yield "quantized activations"
        return
    weight = next((plan.spec for plan in site.tensors if plan.slot == "weight"), None)
    if weight is None:
        yield f"quantized activations of a {site.kind} without a quantized weight"
    elif not (isinstance(spec.format, IntFormat) and isinstance(weight.format, IntFormat)):
        if spec.format != weight.format or str(spec.format) not in activations.levels:
            yield f"{spec.format} activations beside {weight.format} weights"
            return
    elif weight.bits not in activations.weight_bits:
        yield f"quantized activations beside {weight.bits}-bit weights"
    if spec.bits not in activations.bits and isinstance(spec.format, IntFormat):
        yield f"{spec.bits}-bit activations"
    yield from _of_range(activations, spec)
    if isinstance(spec.format, IntFormat) and spec.symmetric and not _is_centred(spec):
        yield f"{_grid(spec)} activations"
    if site.call:
        yield "a module that is called twice, each time with a range of its own"


def _of_range(activations: Activations, spec: QuantSlot) -> Iterator[str]:
    if spec.granularity.kind not in activations.granularities:
        yield f"{spec.granularity} activations"
    if spec.run_time_share != 1:
        yield "ranges that are found at run time and clipped"


def _is_plain_matrix(plan: TensorPlan) -> bool:
    axis = channel_axis(plan.spec.granularity, plan.output_axis, len(plan.shape))
    return len(plan.shape) == 2 and (axis == 0 or isinstance(plan.spec.granularity, PerTensor))


def _is_centred(spec: QuantSlot) -> bool:
    """A symmetric grid of unsigned codes has no number below zero, and few formats have it."""
    return spec.integer.qmin < 0


def _in_blocks(plan: TensorPlan, block: int) -> bool:
    match plan.spec.granularity:
        case PerGroup(size=size):
            return size % block == 0 and plan.shape[-1] % block == 0
        case PerChannel():
            return plan.shape[-1] % block == 0
        case _:
            return prod(plan.shape) > 0 and plan.shape[-1] % block == 0


def _grid(spec: QuantSlot) -> str:
    return f"{spec.format} {'symmetric' if spec.symmetric else 'asymmetric'}"


def _cannot_hold(
    capability: Capability, reason: str, cases: list[tuple[SitePlan, TensorPlan]]
) -> Diagnostic:
    """QR550."""
    site, _ = cases[0]
    rules = dict.fromkeys(plan.decided_by for _, plan in cases)
    others = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
    return Diagnostic(
        Code.EXPORT_FORMAT,
        f"`{capability.name}` cannot hold {reason}",
        subject=site.key,
        notes=(
            f"asked for `{site.key}`{others}",
            *(f"decided by `{rule.text}` in {rule}" for rule in rules),
        ),
        help=f"`{capability.name}` holds {capability.holds}",
    )


def unknown_format(name: str) -> Diagnostic:
    """QR290."""
    return Diagnostic(
        Code.NOT_AVAILABLE,
        f"there is no export format `{name}`",
        notes=(f"formats: {', '.join(FORMATS)}",),
        help=did_you_mean(name, FORMATS),
    )

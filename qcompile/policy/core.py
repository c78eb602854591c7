"""The plan: what will happen to every tensor, and the hash that a run is held to.

``PlanCore`` is hashed; estimates and machine facts live beside it in ``Plan``. Two machines that
plan the same recipe for the same weights and data make the same core.
"""

from typing import Literal

from pydantic import Field

from qcompile.methods.axes import Flip
from qcompile.methods.tuning import Tuning
from qcompile.policy.choice import ChoicePlan
from qcompile.policy.document import Frozen
from qcompile.policy.graph_facts import GraphFacts
from qcompile.policy.images import Images
from qcompile.policy.rotation import BALANCE
from qcompile.policy.rule_ref import RuleRef
from qcompile.policy.run_forecast import RunForecast
from qcompile.policy.scheme import QuantSlot
from qcompile.targets.names import REFERENCE

PLAN_FORMAT_VERSION = "1.0"
UNTIE = "untie"
"""Name of the transform that gives a layer a copy of a weight that others read."""


class TensorPlan(Frozen):
    """One tensor that will be quantized.

    ``shape`` is the weight's own; for an activation it is empty (a batch has any size) and
    ``channels`` is the length of its last-known channel axis when ``granularity`` needs it.
    """

    slot: Literal["weight", "act", "act2"]
    spec: QuantSlot
    parameter: str | None = None
    """Path of the parameter (weights)."""
    storage: str | None = None
    """Path of the first parameter of the same storage (weights)."""
    operand: str | None = None
    """``torch.fx`` node whose value is quantized (activations)."""
    shape: tuple[int, ...] = ()
    output_axis: int = 0
    channels: int | None = None
    block_axis: int | None = Field(default=None, lt=0, exclude_if=lambda axis: axis is None)
    """Along which neighbours share a scale, counted from the end: of an activation in a block
    format. Written only there, so that plans without one keep their hash."""
    bytes_before: int
    bytes_after: int
    """Codes, scales and zero points as they lie on disk."""
    decided_by: RuleRef
    patched_by: tuple[RuleRef, ...] = ()
    shared_by: RuleRef | None = None
    """The ``share`` line that gives this operand one range with the others of its site that name
    the same line (activations)."""


class SitePlan(Frozen):
    """One site that at least one rule matched."""

    key: str
    path: str
    call: int
    node: str
    kind: str
    unit: str
    scheme: str | None
    """``None``: stays in float by a ``skip``."""
    decided_by: RuleRef
    tensors: tuple[TensorPlan, ...] = ()
    refits: tuple[str, ...] = ()
    """Paths of parameters that stay float and are set anew with the codes: the bias."""

    @property
    def has_weight(self) -> bool:
        return any(tensor.slot == "weight" for tensor in self.tensors)


class ParameterPlan(Frozen):
    """A parameter of the recipe with the value in force, given or not."""

    name: str
    value: int | float | bool | str


class TransformPlan(Frozen):
    """A function-preserving rewrite, for example one batch norm folded into one convolution."""

    name: str
    target: str
    """Path of the module that is rewritten."""
    sources: tuple[str, ...] = ()
    """Paths of the modules that vanish into it."""
    readers: tuple[str, ...] = ()
    """Paths of the modules whose weights take up the factors that ``target`` gives away."""
    value: str | None = None
    """Name of the node between them, whose channels are scaled."""
    parameters: tuple[str, ...] = ()
    """Paths of those that get new values, where they are not all of ``target``."""
    settings: tuple[ParameterPlan, ...] = ()

    @property
    def needs_data(self) -> bool:
        """Its numbers are found by the run, in what the float model computes."""
        balances = any(one.name == BALANCE and one.value is True for one in self.settings)
        return self.value is not None or balances


class UnitPlan(Frozen):
    name: str
    is_block: bool
    sites: tuple[str, ...]
    """Keys of the sites inside that have a plan."""
    bytes_before: int
    bytes_after: int
    """All tensors of the unit as they will lie on disk, float ones included."""
    refits: tuple[str, ...] = ()
    """Paths of parameters of norms that are learned with the unit."""


class FileHash(Frozen):
    name: str
    sha256: str


class GroupsPlan(Frozen):
    """Samples of the last batches judge, and their groups have no others."""

    tensor: str
    count: int
    judging: int
    judging_samples: int


class DataPlan(Frozen):
    """The calibration samples that will be used, by index and content."""

    reference: str
    samples: int
    batch: int
    indices: tuple[int, ...]
    sha256: str
    groups: GroupsPlan | None = Field(default=None, exclude_if=lambda groups: groups is None)
    """Written only where the recipe names them, so that plans without keep their hash."""
    flip: Flip | None = Field(default=None, exclude_if=lambda flip: flip is None)
    """Each batch is half of images, half of their mirror images. Written where there are any."""
    mask: str | None = Field(default=None, exclude_if=lambda mask: mask is None)
    """Name of the tensor that says which positions are padding. The same."""
    seq_len: int | None = Field(default=None, exclude_if=lambda length: length is None)
    """The same."""


class EvaluationPlan(Frozen):
    metric: str
    reference: str
    batch: int
    samples: int | None = None
    labels: str | None = None
    mask: str | None = Field(default=None, exclude_if=lambda mask: mask is None)
    seq_len: int | None = Field(default=None, exclude_if=lambda length: length is None)
    """Written only where the recipe names it, so that plans without keep their hash."""


class TunePlan(Frozen):
    """What one ``tune ... for`` has come to decide."""

    tuning: Tuning
    sites: tuple[str, ...]
    """Keys of sites with a quantized weight."""
    decided_by: RuleRef


class OutputPlan(Frozen):
    """What the recipe's ``output`` says beside where: nothing of it changes the artifact."""

    formats: tuple[str, ...] = ()
    """Exports that the run writes beside the artifact."""
    reports: tuple[str, ...] = ()
    """Forms of its report, the same."""
    target: str = REFERENCE
    """For what the artifact is loaded where the caller names no target."""


class PlanCore(Frozen):
    """Everything that decides the bytes of the artifact."""

    language: int
    tool: str
    model: str
    weights: str | None
    images: Images | None = Field(default=None, exclude_if=lambda images: images is None)
    """Written only where the recipe says it, so that plans without keep their hash."""
    recipe: tuple[FileHash, ...]
    """The recipe itself, then every file that it imports."""
    params: tuple[ParameterPlan, ...] = ()
    graph_sha256: str
    weights_sha256: str | None
    """``None`` in a preview, which has read no weights and cannot be run."""
    data: DataPlan | None
    seed: int
    transforms: tuple[TransformPlan, ...]
    units: tuple[UnitPlan, ...]
    sites: tuple[SitePlan, ...]
    fallback: str | None = Field(default=None, exclude_if=lambda scheme: scheme is None)
    """The scheme that a ``require`` fell back to, in the place of the policy's own. Written only
    where one did, so that plans without keep their hash."""
    tuning: Tuning
    """Of all sites that ``tunes`` does not name."""
    tunes: tuple[TunePlan, ...] = ()
    evaluations: tuple[EvaluationPlan, ...] = ()
    bytes_before: int
    bytes_after: int

    @property
    def is_preview(self) -> bool:
        return self.weights_sha256 is None

    def site(self, key: str) -> SitePlan | None:
        return next((site for site in self.sites if site.key == key), None)


class Plan(Frozen):
    """A saved plan. ``core_sha256`` is over the canonical JSON of ``core``."""

    format_version: str = PLAN_FORMAT_VERSION
    core_sha256: str
    core: PlanCore
    beside: "Beside" = Field(default_factory=lambda: Beside())


class SiteCompute(Frozen):
    """Work of one site for one sample of the example input."""

    key: str
    macs: int
    bops_before: int
    bops_after: int
    """Bit operations: multiply-accumulates times the bits of both factors."""


class FallbackPlan(Frozen):
    """What the run would make of the model instead, if a requirement does not hold."""

    scheme: str
    requirement: str
    """The first one that names the scheme, as the recipe says it."""
    core_sha256: str
    """Of the plan that would be carried out."""
    layers: int
    """Of those that the policy quantizes: how many would be quantized in another way."""
    bytes_after: int
    seconds: float | None
    """Of all attempts up to this one, where the machine was measured."""


class Beside(Frozen):
    """Facts that may differ from machine to machine; never hashed."""

    recipe_texts: dict[str, str] = Field(default_factory=dict)
    """The recipe closure as it was, by file name."""
    machine: dict[str, str] = Field(default_factory=dict)
    sites_total: int = 0
    requirements: tuple[str, ...] = ()
    """What is looked at when the run is over, as the recipe says it."""
    fallbacks: tuple[FallbackPlan, ...] = Field(default=(), exclude_if=lambda found: not found)
    """In the order of the text, which is that in which they are tried."""
    output: OutputPlan = Field(default_factory=OutputPlan)
    compute: tuple[SiteCompute, ...] = ()
    """Of every site that multiplies, planned or not."""
    graph: GraphFacts | None = None
    """What was proved of the graph; ``None`` in plans of older versions."""
    choice: ChoicePlan | None = None
    """What a budget has chosen from; ``None`` where the recipe says `use` for everything."""
    forecast: RunForecast | None = None
    """What a run will take of the machine; ``None`` where it was not asked for."""

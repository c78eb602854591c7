"""A recipe with its meaning resolved: everything that can be known without the model."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import PurePath
from typing import Literal, TypeAlias

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Source, Span
from qcompile.methods.axes import Flip
from qcompile.methods.tuning import Tuning
from qcompile.policy.change import Change
from qcompile.policy.claim import Claim, Predicted, Resource, ResourceName, measures
from qcompile.policy.images import Images
from qcompile.policy.rule_ref import RuleRef
from qcompile.policy.scheme import Scheme
from qcompile.policy.selector import Selector

SlotName: TypeAlias = Literal["weight", "act", "act2"]
SLOTS: tuple[SlotName, ...] = ("weight", "act", "act2")
SettableSlot: TypeAlias = Literal["weight", "act", "act2", "kv"]
"""``kv`` is ``act2`` of an attention, and of nothing else."""
SETTABLE_SLOTS: tuple[SettableSlot, ...] = (*SLOTS, "kv")

ParameterValue: TypeAlias = int | float | bool | str
LiteralValue: TypeAlias = int | float | str | bool | tuple["LiteralValue", ...]


@frozen
class Input:
    """``float32[batch, 3, 224, 224]``: sizes are numbers, or names of sizes that may vary."""

    name: str | None
    """Keyword of the model's ``forward``; ``None`` for the only, positional, input."""
    dtype: str
    shape: tuple[int | str, ...]
    span: Span


@frozen
class Model:
    reference: str
    args: tuple[LiteralValue, ...]
    weights: str | None
    inputs: tuple[Input, ...]
    """Empty: the batches of the data say what the inputs are."""
    images: Images | None
    """What ``images:`` data goes through; ``None``: what the model itself brings for it."""
    span: Span
    """The reference string."""


@frozen
class UseScheme:
    scheme: str


@frozen
class SkipSite:
    pass


@frozen
class SetField:
    slot: SettableSlot
    change: Change


@frozen
class SetSite:
    """Of a site as a whole: a copy of a tied weight, ranges of its own for each call."""

    name: Literal["untie", "per_call"]
    value: bool


@frozen
class ShareRange:
    """Where values of the selected sites meet in one operation, they are quantized alike."""

    what: Literal["scale", "zero_point"]


@frozen
class ChooseScheme:
    """Leaves the decision to the budget; ``schemes`` go from the fewest bits to the most."""

    schemes: tuple[str, ...]


@frozen
class FallBack:
    """The ``else`` of a ``require`` that did not hold: takes the place of every scheme so far."""

    scheme: str


Action: TypeAlias = UseScheme | SkipSite | SetField | SetSite | ShareRange | ChooseScheme | FallBack


@frozen
class Rule:
    """One line of a policy; includes and ``within`` are worked into order and selector."""

    action: Action
    selector: Selector
    final: bool
    optional: bool
    policy: str
    """The policy in whose text the line stands."""
    span: Span

    @property
    def schemes(self) -> tuple[str, ...]:
        """What it gives to sites, or may give."""
        match self.action:
            case UseScheme(name) | FallBack(name):
                return (name,)
            case ChooseScheme(names):
                return names
            case _:
                return ()

    @property
    def has_say(self) -> bool:
        """In what becomes of a tensor; rules of other sorts stand beside the schemes."""
        match self.action:
            case UseScheme() | SkipSite() | SetField() | ChooseScheme() | SetSite("untie", True):
                return True
            case _:
                return False

    @property
    def text(self) -> str:
        """The line on one line."""
        return on_one_line(self.span)

    @property
    def reference(self) -> RuleRef:
        return reference_to(self.span)


def on_one_line(span: Span) -> str:
    return " ".join(span.text.split())


def reference_to(span: Span) -> RuleRef:
    """How a plan calls a place in a recipe."""
    line, column = span.location
    name = span.source.name
    if PurePath(name).is_absolute():  # a plan names no place of one machine
        name = PurePath(name).name
    return RuleRef(file=name, line=line, column=column, text=on_one_line(span))


@frozen
class BlockEach:
    """Every module that ``selector``'s patterns match is a block of its own."""

    selector: Selector
    span: Span


@frozen
class BlockGroup:
    name: str
    selector: Selector
    span: Span


@frozen
class Calibration:
    reference: str
    samples: int
    batch: int
    seed: int
    labels: str | None
    groups: str | None
    """Name of the tensor that says of which group a sample is."""
    flip: Flip | None
    """Mirror images are looked at, too."""
    mask: str | None
    """Name of the tensor that says which positions are padding."""
    seq_len: int | None
    span: Span
    """The whole statement."""
    reference_span: Span


@frozen
class Evaluation:
    metric: str
    reference: str
    batch: int
    samples: int | None
    labels: str | None
    mask: str | None
    seq_len: int | None
    span: Span


@frozen
class Transform:
    """``prepare``: a rewrite that keeps the function, in the order of the text."""

    name: str
    settings: Mapping[str, LiteralValue]
    selector: Selector | None
    """``None``: wherever it can be applied."""
    span: Span


@frozen
class Tune:
    """``tune PRESET for S``; of several that select a site the last one counts."""

    tuning: Tuning
    spans: Mapping[str, Span]
    """Of each setting that the statement writes, and of ``preset``."""
    selector: Selector
    span: Span


@frozen
class Limit:
    claim: Claim
    span: Span

    @property
    def resources(self) -> tuple[ResourceName, ...]:
        """What it limits of a run; nothing for a limit on the plan."""
        return tuple(one.which for one in measures(self.claim) if isinstance(one, Resource))

    @property
    def is_predicted(self) -> bool:
        """It limits what ``choose`` costs, which the choice keeps."""
        return any(isinstance(one, Predicted) for one in measures(self.claim))


@frozen
class Objective:
    direction: Literal["minimize", "maximize"]
    figure: str
    span: Span


@frozen
class Budget:
    limits: tuple[Limit, ...]
    objective: Objective | None
    span: Span

    @property
    def goes_by_size(self) -> bool:
        """What is chosen takes the fewest bytes; else it costs the least."""
        return self.objective is not None and self.objective.figure == "size"


@frozen
class TargetName:
    """Where the artifact is to run: a name, or a file beside the recipe."""

    name: str
    span: Span


@frozen
class Output:
    directory: str | None
    exports: tuple[str, ...]
    """Formats beside the artifact itself, which is always written."""
    reports: tuple[str, ...]
    """Forms of the report beside the artifact; `report.json` always lies in it."""
    format_span: Span
    """Of what `format` is set to; of the statement where it is not set."""
    target: TargetName | None
    """For what the artifact is loaded unless the caller says otherwise."""
    span: Span


@frozen
class Requirement:
    """``require``: looked at when the run is over."""

    claim: Claim
    otherwise: str | None
    """The scheme after ``else``, which the run falls back to where the claim does not hold."""
    reason: str | None
    span: Span


@frozen
class Assertion:
    """``expect`` fails the plan; ``prefer`` warns."""

    kind: Literal["expect", "prefer"]
    claim: Claim
    reason: str | None
    span: Span


@frozen
class Recipe:
    source: Source
    closure: tuple[Source, ...]
    """The recipe itself, then every file it imports, directly or not."""
    version: int
    params: Mapping[str, ParameterValue]
    """The value in force of each parameter; that of an import is called ``alias.name``."""
    model: Model | None
    schemes: Mapping[str, Scheme]
    scheme_spans: Mapping[tuple[str, str], Span]
    """The line that gave a slot (``weight``, ``act``, ``act2``) of a scheme its last word."""
    policy: str | None
    """The policy that runs; ``None`` in a library that has no single one."""
    rules: tuple[Rule, ...]
    selects: Mapping[str, Selector]
    blocks: tuple[BlockEach | BlockGroup, ...]
    transforms: tuple[Transform, ...]
    """The default ones too, unless the recipe lists them."""
    calibration: Calibration | None
    evaluations: tuple[Evaluation, ...]
    tuning: Tuning
    """Of all that no ``tune ... for`` selects."""
    tuning_spans: Mapping[str, Span]
    """Of each setting that this ``tune`` writes, and of ``preset``."""
    output: Output | None
    assertions: tuple[Assertion, ...] = field(default=())
    target: TargetName | None = None
    tunes: tuple[Tune, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    budget: Budget | None = None
    unavailable: tuple[Diagnostic, ...] = ()
    """QR290: what stands between this legal recipe and a plan."""

    @property
    def is_library(self) -> bool:
        """Legal to check and to import, but without a model there is nothing to plan."""
        return self.model is None

    @property
    def model_reference(self) -> str | None:
        return None if self.model is None else self.model.reference

    @property
    def images(self) -> Images | None:
        return None if self.model is None else self.model.images

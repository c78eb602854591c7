"""A recipe with its meaning resolved: everything that can be known without the model."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import PurePath
from typing import Literal, TypeAlias

from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Source, Span
from qcompile.methods.tuning import Tuning
from qcompile.policy.change import Change
from qcompile.policy.claim import Claim
from qcompile.policy.core import RuleRef
from qcompile.policy.scheme import Scheme
from qcompile.policy.selector import Selector

SlotName: TypeAlias = Literal["weight", "act", "act2"]
SLOTS: tuple[SlotName, ...] = ("weight", "act", "act2")

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
    slot: SlotName
    change: Change


Action: TypeAlias = UseScheme | SkipSite | SetField


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
    def text(self) -> str:
        """The line on one line."""
        return " ".join(self.span.text.split())

    @property
    def reference(self) -> RuleRef:
        line, column = self.span.location
        name = self.span.source.name
        if PurePath(name).is_absolute():  # a plan names no place of one machine
            name = PurePath(name).name
        return RuleRef(file=name, line=line, column=column, text=self.text)


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
    span: Span


@frozen
class Assertion:
    """``expect`` fails the plan; ``prefer`` warns."""

    kind: Literal["expect", "prefer"]
    claim: Claim
    reason: str | None
    span: Span


@frozen
class TargetName:
    """Where the artifact is to run: a name, or a file beside the recipe."""

    name: str
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
    transforms: tuple[str, ...]
    calibration: Calibration | None
    evaluations: tuple[Evaluation, ...]
    tuning: Tuning
    output: str | None
    assertions: tuple[Assertion, ...] = field(default=())
    target: TargetName | None = None

    @property
    def is_library(self) -> bool:
        """Legal to check and to import, but without a model there is nothing to plan."""
        return self.model is None

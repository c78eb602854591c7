"""What the analysis proves of a graph, as a value without torch that can be printed and saved."""

from typing import Literal, TypeAlias

from qcompile.policy.document import Frozen

FusionKind: TypeAlias = Literal["layer", "norm-linear", "gate-up", "qkv", "common-input"]


class ScaleClass(Frozen):
    """Values that are on one grid as soon as any join among them computes on codes."""

    values: tuple[str, ...]
    """Names of ``torch.fx`` nodes, in execution order."""
    joins: tuple[str, ...]
    """Names of the nodes that make several of them meet: sums, concatenations, choices."""


class Fusion(Frozen):
    """Sites that kernels compute as one operation."""

    kind: FusionKind
    """``layer``: a convolution or linear layer with its batch norm and its activation."""
    sites: tuple[str, ...]


class SharedWeight(Frozen):
    """One weight that several sites read: calls of one module, or tied parameters."""

    storage: str
    sites: tuple[str, ...]


class ValueUse(Frozen):
    """One value that several sites read, each behind its own quantizer."""

    value: str
    sites: tuple[str, ...]
    formats: tuple[str, ...]
    """The number formats of those quantizers, each once; ``float`` for a reader without."""


class OperandRange(Frozen):
    """Bounds that hold for every input of the model; ``None`` where there is none."""

    site: str
    slot: Literal["act", "act2"]
    low: float | None
    high: float | None


class Accumulator(Frozen):
    """The sums of products that one integer layer forms, at their worst."""

    site: str
    terms: int
    """Products that are added in integers before a scale is applied."""
    low: int
    high: int
    bits: int
    """Of the narrowest two's complement integer that holds ``low`` and ``high``."""


class UnitEdges(Frozen):
    """The units whose values a unit reads."""

    unit: str
    reads: tuple[str, ...]


class GraphFacts(Frozen):
    nodes: int
    scale_classes: tuple[ScaleClass, ...] = ()
    """Those of more than one value that some join holds together."""
    fusions: tuple[Fusion, ...] = ()
    shared_weights: tuple[SharedWeight, ...] = ()
    uses: tuple[ValueUse, ...] = ()
    ranges: tuple[OperandRange, ...] = ()
    """Of the operands of which something is known."""
    accumulators: tuple[Accumulator, ...] = ()
    units: tuple[UnitEdges, ...] = ()
    islands: tuple[str, ...] = ()
    """Sites that stay in float between quantized ones."""
    dead: tuple[str, ...] = ()
    """Nodes that the model computes and no output needs."""

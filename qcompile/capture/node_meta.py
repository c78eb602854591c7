"""What the tracer knows of a node, kept in ``node.meta`` behind two functions."""

from dataclasses import dataclass
from typing import cast

from torch import fx

KEY = "qcompile"
FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One call of an entered module; ``call`` counts the calls of the same module from 0."""

    path: str
    class_name: str
    call: int
    container: str | None
    """Path of the ``ModuleList`` or ``Sequential`` that holds it, if one does."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Facts of the example run. Shapes are ``None`` for what is not one tensor."""

    stack: tuple[ModuleCall, ...] = ()
    """Entered modules around the node, outermost first, without the root."""
    shape: tuple[int | str, ...] | None = None
    """Free sizes as expressions of symbols, for example ``("s0", 16, "s1 + 1")``."""
    example: tuple[int, ...] | None = None
    """The same shape in numbers."""
    dtype: str | None = None
    call: int = 0
    """For a leaf module: how many calls of it came before."""
    hoisted: bool = False
    """Arithmetic on input sizes, placed right after the placeholders; in no unit."""

    @property
    def is_tensor(self) -> bool:
        return self.shape is not None

    @property
    def is_float(self) -> bool:
        return self.is_tensor and self.dtype in FLOATS


def facts(node: fx.Node) -> NodeFacts:
    """What is known of ``node``; blank for a node that no trace has seen."""
    return cast("NodeFacts", node.meta.get(KEY, NodeFacts()))


def set_facts(node: fx.Node, value: NodeFacts) -> None:
    node.meta[KEY] = value


def call_name(path: str, call: int) -> str:
    return path if call == 0 else f"{path}@{call}"

"""What a capture yields."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from torch import fx

from qcompile.capture.specialisation import Specialisation
from qcompile.diagnostics.diagnostic import Diagnostic

FreeAxes: TypeAlias = Mapping[str, tuple[int, ...]]
"""By input; ``"pair.0"`` for a tensor inside a tuple."""


@dataclass(frozen=True, slots=True)
class Captured:
    """``module`` shares the leaf modules and parameters of the model it was captured from."""

    module: fx.GraphModule
    method: Literal["fake", "real"]
    """``real``: the model had to be run with values, and only the example's shapes will do."""
    specialisations: tuple[Specialisation, ...]
    diagnostics: tuple[Diagnostic, ...]
    free_axes: FreeAxes = field(default_factory=dict[str, tuple[int, ...]])
    """Whose sizes may differ from the example's; empty where ``method`` is ``real``."""
    size_problem: Callable[[Mapping[str, Sequence[int]]], str | None] = lambda shapes: None
    """Why the graph does not hold for inputs of these shapes, if it does not."""

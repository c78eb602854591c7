"""What a capture yields."""

from dataclasses import dataclass
from typing import Literal

from torch import fx

from qcompile.capture.specialisation import Specialisation
from qcompile.diagnostics.diagnostic import Diagnostic


@dataclass(frozen=True, slots=True)
class Captured:
    """``module`` shares the leaf modules and parameters of the model it was captured from."""

    module: fx.GraphModule
    method: Literal["fake", "real"]
    """``real``: the model had to be run with values, and only the example's shapes will do."""
    specialisations: tuple[Specialisation, ...]
    diagnostics: tuple[Diagnostic, ...]

"""What a pass is: a valid graph in, a valid graph out, and an honest word on what it did."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import fx


@dataclass(frozen=True, slots=True)
class PassResult:
    module: fx.GraphModule
    changed: bool
    """``False``: the module is the one that was given, untouched."""


class Pass(Protocol):
    """A frozen dataclass; its fields are its options."""

    name: ClassVar[str]

    def run(self, module: fx.GraphModule) -> PassResult:
        """Leave ``module`` as it is and return a new one if there is something to do."""
        ...

"""What a target is asked about: one layer, reduced to what decides whether a kernel can take it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorForm:
    """A quantized tensor. Names are those of the language: ``int4``, ``per_channel``."""

    format: str
    symmetric: bool
    granularity: str
    group: int | None = None
    dynamic: bool = False
    """The range is found at run time."""

    def __str__(self) -> str:
        symmetry = "" if self.symmetric else " asymmetric"
        size = "" if self.group is None else f"({self.group})"
        dynamic = " dynamic" if self.dynamic and self.granularity != "per_token" else ""
        return f"{self.format}{symmetry} {self.granularity}{size}{dynamic}"


ADD, ADD_CODES = "add", "add_codes"
"""An addition of which all operands are quantized, and one with the others in float."""


@dataclass(frozen=True, slots=True)
class LayerForm:
    """``weight`` is ``None`` and ``acts`` empty where they stay in float."""

    op: str
    """``linear``, ``conv2d``, ``conv_transpose1d``, ``embedding``, ``matmul``, ``add``, ..."""
    weight: TensorForm | None = None
    acts: tuple[TensorForm, ...] = ()
    inputs: int | None = None
    """Features of a linear layer; ``None`` for other operations."""
    outputs: int | None = None

    def __str__(self) -> str:
        if self.op == ADD_CODES:
            return f"{ADD} of floats and {', '.join(map(str, self.acts))}"
        weight = "float" if self.weight is None else str(self.weight)
        acts = ", ".join(map(str, self.acts)) or "float"
        return f"{self.op} with weight {weight}, act {acts}"

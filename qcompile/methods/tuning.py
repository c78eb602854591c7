"""The engine's axes as one value: a preset is nothing but a point in their product.

Every axis is a separate field, so that a preset can be read and a field overridden.
(methods of the field, by axis: arXiv 2308.07662.)
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Solver = Literal["rtn"]
Partition = Literal["layer", "block"]
Precision = Literal["fp32", "bf16"]


class Tuning(BaseModel):
    """How codes are chosen. With ``solvers == ("rtn",)`` the learning axes are unused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str
    solvers: tuple[Solver, ...]
    """Run in order, each starting from the codes of the last."""
    partition: Partition = "block"
    variable: str | None = None
    """What is optimised instead of the codes: a rounding gate, an offset, the weight itself."""
    loss: str = "mse"
    optimizer: str | None = None
    steps: int = Field(default=0, ge=0)
    batch: int = Field(default=32, gt=0)
    seed: int = 0
    precision: Precision = "fp32"

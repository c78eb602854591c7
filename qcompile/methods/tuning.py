"""The engine's axes as one value: a preset is nothing but a point in their product.

Every axis is a separate field, so that a preset can be read and a field overridden.
(The axes are those that arXiv 2308.07662 names.)
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Solver = Literal["rtn", "optq", "gradient"]
Partition = Literal["layer", "block"]
Precision = Literal["auto", "fp32", "bf16"]
Variable = Literal["gate"]
Learned = Literal["rounding", "act_scale"]
DropPlace = Literal["none", "input", "act", "both"]


class Tuning(BaseModel):
    """How codes are chosen. Without the solver ``gradient`` the learning axes are unused."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    preset: str
    solvers: tuple[Solver, ...]
    """Run in order, each starting from the codes of the last."""
    partition: Partition = "block"
    """What is reconstructed together: one layer at a time, or all layers of a block."""
    variable: Variable = "gate"
    """What is optimised instead of the codes: ``gate`` is AdaRound's, between two neighbours."""
    learn: tuple[Learned, ...] = ("rounding",)
    loss: Literal["mse"] = "mse"
    """Of the output, relative to its value at the start."""
    drop: DropPlace = "none"
    """Where QDrop mixes float elements in: the inputs of the block, its activation quantizers."""
    keep_quantized: float = Field(default=0.5, ge=0, le=1)
    """Probability that an element stays quantized where ``drop`` acts."""
    optimizer: Literal["adam"] = "adam"
    lr: float | None = Field(default=None, gt=0)
    """Of the rounding variable; ``None``: ``travel / steps``, so that fewer steps are larger."""
    travel: float = Field(default=20.0, gt=0)
    act_lr: float = Field(default=1e-3, gt=0)
    """Of the logarithm of an activation scale; falls to 0 along a cosine."""
    hardening: float = Field(default=10.0, gt=0)
    """Strength of the regulariser in units of the loss gradient (its root mean square)."""
    warmup: float = Field(default=0.2, ge=0, lt=1)
    """Share of the steps before the regulariser acts."""
    beta_start: float = 20.0
    beta_end: float = 2.0
    steps: int = Field(default=0, ge=0)
    batch: int = Field(default=32, gt=0)
    """Samples a step; the calibration data is cut into batches of this size."""
    order: Literal["natural", "activation"] = "activation"
    """Column order of ``optq``."""
    damping: float = Field(default=0.01, gt=0)
    seed: int | None = None
    """``None``: that of the calibration data."""
    precision: Precision = "auto"
    """Of matrix products while learning; ``auto``: bf16 where the machine is fast at it."""

    @property
    def learns(self) -> bool:
        return "gradient" in self.solvers

    @property
    def rounding_lr(self) -> float:
        return self.lr if self.lr is not None else self.travel / max(self.steps, 1)

"""The engine's axes as one value: a preset is nothing but a point in their product.

Every axis is a separate field, so that a preset can be read and a field overridden.
(The axes are those that arXiv 2308.07662 names.)
"""

from qcompile.diagnostics.frozen import frozen
from qcompile.methods.axes import (
    Augment,
    DropPlace,
    Inputs,
    Learned,
    LossTerm,
    Optimizer,
    Order,
    Partition,
    Precision,
    Rescaling,
    Schedule,
    Select,
    Solver,
    Target,
    Variable,
)
from qcompile.methods.bounds import refuse_illegal

GRID_PARAMETERS: tuple[Learned, ...] = ("scale", "zero_point", "exponent", "levels")

TRAVEL: tuple[tuple[Variable, float], ...] = (
    ("gate", 20.0),
    ("additive", 1.0),
    ("division", 1.0),
    ("weight", 2.0),
    ("categorical", 20.0),
    ("annealed", 4.0),
)
"""How far a variable may go in all steps together, in its own units: gates and logits need room to
settle, offsets and weights are in steps of the grid, divisions in logarithms."""


@frozen
class Tuning:
    """How codes are chosen. Without the solver ``gradient`` the learning axes are unused.

    A value out of its bounds is a ``ValueError``, also where a plan is read.
    """

    preset: str
    solvers: tuple[Solver, ...]
    """Run in order, each starting from the codes of the last."""
    partition: Partition = "block"
    """What is reconstructed together: one layer at a time, or all layers of a block."""
    variable: Variable = "gate"
    """What is optimised instead of the codes: ``gate`` is AdaRound's, between two neighbours."""
    learn: tuple[Learned, ...] = ("rounding",)
    """``scale`` and ``bias`` by least squares in the layer's solvers, and by gradient where that is
    one of the solvers (see ``of_grid``); the others by gradient alone."""
    loss: tuple[LossTerm, ...] = (LossTerm("mse"),)
    """Of the output, relative to its value at the start."""
    drop: DropPlace = "none"
    """Where QDrop mixes float elements in: the inputs of the block, its activation quantizers.
    ``gradual``: in both, and fewer from step to step."""
    keep_quantized: float = 0.5
    """Probability that an element stays quantized where ``drop`` acts; of ``gradual`` the first,
    it rises to 1."""
    augment: Augment = Augment()
    select: Select = Select()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = "constant"
    """Of the learning rate of the rounding variable."""
    travel: float | None = None
    """Where the optimizer has no rate: it is ``travel / steps``, so that fewer steps are larger.
    ``None``: that of the variable, see ``TRAVEL``."""
    act_lr: float = 1e-3
    """Of the logarithm of an activation scale; falls to 0 along a cosine."""
    grid_lr: float = 1e-3
    """Of the logarithm of a weight's scale or exponent, of its zero point as a share of the codes,
    and of levels; falls to 0 along a cosine."""
    bias_lr: float = 1e-3
    """Of biases, in norms of a row of the weight, and of gains and biases of norms, in root mean
    squares of the gain; falls to 0 along a cosine."""
    hardening: float = 10.0
    """Strength of the regulariser in units of the loss gradient (its root mean square)."""
    warmup: float = 0.2
    """Share of the steps before the regulariser acts."""
    beta_start: float = 20.0
    beta_end: float = 2.0
    """Exponent of the regulariser, from the end of the warm-up to the last step."""
    frozen_base: bool = False
    """The lower neighbour of each gate is that of the scale at the start, so that the scale may
    be learned too (Genie, 2212.04780)."""
    steps: int = 0
    batch: int = 32
    """Samples a step; the calibration data is cut into batches of this size."""
    samples: int | None = None
    """Of the calibration data, from its start; ``None``: all."""
    patience: int | None = None
    """Steps without a better held-out loss after which learning ends, and the best is kept;
    ``None``: all steps are taken, and the last is. Counted from the end of the warm-up."""
    inputs: Inputs = "quantized"
    """What a block is fed while it learns: the values behind the quantized prefix, those of the
    float model, or ``mixed``: each sample of a step is of one or the other."""
    order: Order = "activation"
    """Column order of ``optq``."""
    target: Target = "symmetric"
    """What the layer's solvers fit: ``W q``, or the float output ``W f`` behind the quantized
    prefix; ``residual`` also takes off the error of the skip that the output is added to. With
    several dampings a layer whose held-out error is less with ``W q`` takes that."""
    damping: tuple[float, ...] = (0.01,)
    """Of the layer's solvers, in mean diagonals of the Gram matrix. Several: each layer takes the
    one with the least error on held-out batches, and nearest rounding where that is still less."""
    scale_factors: tuple[float, ...] = (1.0,)
    """Multiples of the searched scale that the layer's solvers start from; a row keeps the best."""
    refits: int = 4
    """Rounds of scale refit and descent, where ``scale`` is learned by the layer's solvers."""
    prepare: tuple[Rescaling, ...] = ()
    """Transforms that a method brings along, as if ``prepare`` stated them for its layers."""
    seed: int | None = None
    """``None``: that of the calibration data."""
    precision: Precision = "auto"
    """Of matrix products while learning; ``auto``: bf16 where the machine is fast at it."""

    def __post_init__(self) -> None:
        refuse_illegal(
            keep_quantized=0 <= self.keep_quantized <= 1,
            travel=self.travel is None or self.travel > 0,
            act_lr=self.act_lr > 0,
            grid_lr=self.grid_lr > 0,
            bias_lr=self.bias_lr > 0,
            hardening=self.hardening > 0,
            warmup=0 <= self.warmup < 1,
            steps=self.steps >= 0,
            batch=self.batch > 0,
            damping=bool(self.damping) and min(self.damping) > 0,
            scale_factors=bool(self.scale_factors) and min(self.scale_factors) > 0,
            refits=self.refits >= 0,
            beta_start=1 <= self.beta_start <= 100,
            beta_end=1 <= self.beta_end <= 100,
            samples=self.samples is None or self.samples > 0,
            patience=self.patience is None or self.patience > 0,
            loss=len(self.loss) > 0,
        )

    @property
    def learns(self) -> bool:
        return "gradient" in self.solvers

    @property
    def learns_whole(self) -> bool:
        """A stretch of layers is learned as one."""
        return self.learns and self.partition != "layer"

    @property
    def learns_norms(self) -> bool:
        return self.learns_whole and "norm" in self.learn

    @property
    def takes_steps(self) -> bool:
        return self.learns or "gram" in self.solvers

    @property
    def fits_nearest(self) -> bool:
        """Nearest rounding alone, with a scale or a bias that is fitted to the layer's inputs."""
        return self.solvers == ("rtn",) and not {"scale", "bias"}.isdisjoint(self.learn)

    @property
    def uses_moments(self) -> bool:
        """A solver of the layer looks at its inputs."""
        return self.fits_nearest or any(name in self.solvers for name in ("optq", "gram", "cd"))

    @property
    def chooses_ranges(self) -> bool:
        """The layer's solvers look for the range of its input that suits its output."""
        return self.uses_moments and "act_scale" in self.learn

    @property
    def weighs_rows(self) -> bool:
        """The layer's solvers mind how much the network's output depends on each row."""
        return self.uses_moments and any(term.name == "fisher" for term in self.loss)

    @property
    def refits_bias(self) -> bool:
        return "bias" in self.learn and (self.uses_moments or self.learns)

    @property
    def of_grid(self) -> tuple[Learned, ...]:
        """Parameters of a weight's grid that are learned by gradient.

        A gate takes the grid as the layer's solvers left it, unless its base is frozen.
        """
        moving = self.variable != "gate" or self.frozen_base or "rounding" not in self.learn
        return tuple(name for name in self.learn if moving and name in GRID_PARAMETERS)

    @property
    def rounding_lr(self) -> float:
        travel = dict(TRAVEL)[self.variable] if self.travel is None else self.travel
        return self.optimizer.lr or travel / max(self.steps, 1)

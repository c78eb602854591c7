"""The values of the engine's axes: words of the ``tune`` table, some with arguments.

Where an argument is ``None`` the word takes none, or the engine's own default holds.
"""

from typing import Literal

from qcompile.diagnostics.frozen import frozen
from qcompile.methods.bounds import refuse_illegal

Partition = Literal["layer", "block", "stage", "network"]
Solver = Literal["rtn", "optq", "gram", "cd", "gradient"]
Variable = Literal["gate", "additive", "division", "weight", "categorical", "annealed"]
Learned = Literal[
    "rounding", "scale", "zero_point", "exponent", "levels", "bias", "act_scale", "norm"
]
LossName = Literal[
    "mse", "fisher", "fisher_full", "perturbation", "prediction",
    "kl", "trimmed", "cosine", "huber", "l1",
]  # fmt: skip
DropPlace = Literal["none", "input", "act", "both", "gradual"]
AugmentName = Literal["none", "noise", "mixup", "cutmix", "distribution_correction"]
SelectName = Literal["all", "near_threshold", "salient", "random"]
OptimizerName = Literal[
    "sgd", "sign_sgd", "adam", "adamw", "nadam", "adamax", "adagrad", "rmsprop", "lion"
]
Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["auto", "fp32", "bf16"]
Inputs = Literal["quantized", "float", "mixed"]
Order = Literal["natural", "activation"]
Rescaling = Literal["equalize", "smoothquant", "awq", "ln_reparam"]
Target = Literal["symmetric", "asymmetric", "residual"]
Flip = Literal["horizontal", "vertical"]
"""Of ``calibrate``: the axis along which images are mirrored."""


@frozen
class LossTerm:
    """One term of the objective. Terms add up, each relative to its value at the start."""

    name: LossName
    p: float | None = None
    """Exponent of ``mse``."""
    temperature: float | None = None
    """Of the softmax in ``prediction``."""
    weight: float | None = None
    share: float | None = None
    """Of the largest differences, left out by ``trimmed``."""

    def __post_init__(self) -> None:
        refuse_illegal(
            p=_within(self.p, 1, 10),
            temperature=_within(self.temperature, 0.01, 100),
            weight=_within(self.weight, 0, 1e6),
            share=_within(self.share, 0, 0.5),
        )

    def __str__(self) -> str:
        return _shown(self.name, p=self.p, T=self.temperature, weight=self.weight, share=self.share)


@frozen
class Augment:
    """What is done to the cached inputs of a block before a step."""

    name: AugmentName = "none"
    amount: float | None = None
    """Standard deviation of ``noise``, in units of that of the input."""

    def __post_init__(self) -> None:
        refuse_illegal(amount=_within(self.amount, 0, 10))

    def __str__(self) -> str:
        return _shown(self.name, amount=self.amount)


@frozen
class Select:
    """Which weights may move; the others keep the code that they start with."""

    name: SelectName = "all"
    share: float | None = None
    """Of the weights of a layer."""

    def __post_init__(self) -> None:
        refuse_illegal(share=self.share is None or 0 < self.share <= 1)

    def __str__(self) -> str:
        return _shown(self.name, share=self.share)


@frozen
class Optimizer:
    """The step rule, with the arguments that it takes."""

    name: OptimizerName = "adam"
    lr: float | None = None
    """Of the rounding variable."""
    momentum: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        refuse_illegal(
            lr=self.lr is None or 0 < self.lr <= 10,
            momentum=_within(self.momentum, 0, 1),
            beta1=self.beta1 is None or 0 <= self.beta1 < 1,
            beta2=self.beta2 is None or 0 <= self.beta2 < 1,
            weight_decay=_within(self.weight_decay, 0, 10),
        )

    def __str__(self) -> str:
        """Without the learning rate: a rate is no choice of method."""
        return _shown(
            self.name,
            momentum=self.momentum,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.weight_decay,
        )


def _within(value: float | None, low: float, high: float) -> bool:
    return value is None or low <= value <= high


def _shown(name: str, **arguments: float | None) -> str:
    """``mse(p=2.4)``, as a recipe writes it."""
    given = [f"{key}={value:g}" for key, value in arguments.items() if value is not None]
    return f"{name}({', '.join(given)})" if given else name

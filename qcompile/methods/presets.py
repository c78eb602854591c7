"""The presets, as data. A new one is one entry here and one page in ``docs/presets``.

Literature settings that are a point of the product are stated; where ours differ from the paper's,
the preset's page says so and why.
"""

from qcompile.methods.axes import LossTerm, Optimizer
from qcompile.methods.tuning import Tuning

SIGNROUND = (
    ("signround_light", 50, 0.25),
    ("signround", 200, 1.0),
    ("signround_best", 1000, 1.0),
)
"""Steps, and the sum of all rates before they fall: ``|V| <= 1/2`` without a clip."""


def _signround(name: str, steps: int, travel: float) -> Tuning:
    return Tuning(
        preset=name,
        solvers=("rtn", "gradient"),
        variable="additive",
        learn=("rounding", "scale"),
        optimizer=Optimizer("sign_sgd"),
        schedule="linear",
        travel=travel,
        steps=steps,
    )


PRESETS: tuple[Tuning, ...] = (
    Tuning(preset="rtn", solvers=("rtn",)),
    Tuning(
        preset="rtn_gram",
        solvers=("rtn",),
        partition="layer",
        learn=("rounding", "scale", "bias"),
    ),
    Tuning(preset="optq", solvers=("optq",), partition="layer"),
    Tuning(
        preset="hybrid",
        solvers=("optq", "cd"),
        partition="layer",
        learn=("rounding", "scale", "bias", "act_scale"),
        target="residual",
        damping=(0.01, 0.1, 1.0),
        scale_factors=(0.7, 0.8, 0.9, 1.0, 1.1),
    ),
    Tuning(preset="adaround", solvers=("rtn", "gradient"), partition="layer", steps=1000),
    Tuning(
        preset="brecq", solvers=("rtn", "gradient"), learn=("rounding", "act_scale"), steps=1000
    ),
    Tuning(
        preset="brecq_fisher",
        solvers=("rtn", "gradient"),
        learn=("rounding", "act_scale"),
        loss=(LossTerm("fisher"),),
        steps=1000,
    ),
    Tuning(
        preset="qdrop",
        solvers=("rtn", "gradient"),
        learn=("rounding", "act_scale"),
        drop="both",
        steps=1000,
    ),
    Tuning(
        preset="pdquant",
        solvers=("rtn", "gradient"),
        learn=("rounding", "act_scale"),
        loss=(LossTerm("mse"), LossTerm("prediction", temperature=4, weight=1)),
        drop="both",
        steps=1000,
    ),
    Tuning(
        preset="genie",
        solvers=("rtn", "gradient"),
        learn=("rounding", "scale", "act_scale"),
        frozen_base=True,
        drop="both",
        steps=1000,
    ),
    Tuning(
        preset="flexround",
        solvers=("rtn", "gradient"),
        variable="division",
        learn=("rounding", "scale"),
        schedule="cosine",
        steps=1000,
    ),
    *(_signround(name, steps, travel) for name, steps, travel in SIGNROUND),
    Tuning(
        preset="blockap",
        solvers=("rtn", "gradient"),
        variable="weight",
        learn=("rounding", "scale", "zero_point"),
        optimizer=Optimizer("adamw", weight_decay=0.0),
        schedule="cosine",
        steps=1000,
    ),
    Tuning(preset="gptaq", solvers=("optq",), partition="layer", target="asymmetric"),
    Tuning(preset="repq", solvers=("rtn",), prepare=("ln_reparam",)),
    Tuning(preset="powerquant", solvers=("rtn",), learn=("exponent",)),
    Tuning(
        preset="nupes",
        solvers=("rtn", "gradient"),
        variable="weight",
        learn=("rounding", "scale", "exponent"),
        schedule="cosine",
        steps=1000,
    ),
)

DEFAULT_PRESET = "rtn"


def preset(name: str) -> Tuning | None:
    return next((item for item in PRESETS if item.preset == name), None)

"""The presets, as data. A new one is one entry here and one page in ``docs/presets``.

Literature settings that are a point of the product are stated; where ours differ from the paper's,
the preset's page says so and why.
"""

from qcompile.methods.axes import LossTerm
from qcompile.methods.tuning import Tuning

PRESETS: tuple[Tuning, ...] = (
    Tuning(preset="rtn", solvers=("rtn",)),
    Tuning(preset="optq", solvers=("optq",), partition="layer"),
    Tuning(
        preset="hybrid",
        solvers=("optq", "cd"),
        partition="layer",
        learn=("rounding", "scale", "bias"),
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
)

DEFAULT_PRESET = "rtn"

LATER_PRESETS = (
    *("genie", "flexround", "signround_light", "signround"),
    *("signround_best", "blockap", "gptaq", "powerquant", "nupes", "repq"),
)
"""Names that the language knows already; a plan with one of them is refused (QR290)."""


def preset(name: str) -> Tuning | None:
    return next((item for item in PRESETS if item.preset == name), None)

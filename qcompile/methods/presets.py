"""The presets, as data. A new one is one entry here and one page in ``docs/presets.md``."""

from qcompile.methods.tuning import Tuning

PRESETS: tuple[Tuning, ...] = (Tuning(preset="rtn", solvers=("rtn",)),)

DEFAULT_PRESET = "rtn"


def preset(name: str) -> Tuning | None:
    return next((item for item in PRESETS if item.preset == name), None)

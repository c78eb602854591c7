"""The losses, by the word of the language. A new one is a function and a row here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from qcompile.methods.axes import LossName, LossTerm
from qcompile.quant.losses.angle import cosine
from qcompile.quant.losses.pair import Pair
from qcompile.quant.losses.power import l1, mse
from qcompile.quant.losses.prediction import kl, prediction
from qcompile.quant.losses.robust import huber, trimmed
from qcompile.quant.losses.second_order import fisher, fisher_full, perturbation

Sees = Literal["output", "gradient", "curvature", "network"]
"""``output``: that of the block. ``gradient`` and ``curvature``: the same, weighted by the first or
second derivative of the network behind it. ``network``: the network's own output."""


@dataclass(frozen=True, slots=True)
class Loss:
    name: LossName
    sees: Sees
    of: Callable[[Pair, LossTerm], Tensor]
    """A mean over samples, so that the size of a batch does not show."""
    weight: float = 1.0
    """In a sum, unless the term says another."""
    by_sample: bool = False
    """A sample's is no sum over its elements, so that these have to stay together."""


LOSSES = (
    Loss("mse", "output", mse),
    Loss("l1", "output", l1),
    Loss("huber", "output", huber),
    Loss("trimmed", "output", trimmed),
    Loss("cosine", "output", cosine, by_sample=True),
    Loss("fisher", "gradient", fisher),
    Loss("fisher_full", "gradient", fisher_full, by_sample=True),
    Loss("perturbation", "curvature", perturbation),
    Loss("prediction", "network", prediction, weight=10.0),
    Loss("kl", "network", kl),
)


def loss(name: LossName) -> Loss:
    return next(row for row in LOSSES if row.name == name)

"""The rescalings, by the word of the language. A new one is a file and a row here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qcompile.quant.rescalings.awq import awq
from qcompile.quant.rescalings.channels import Rescaled, Situation
from qcompile.quant.rescalings.equalize import equalize
from qcompile.quant.rescalings.ln_reparam import ln_reparam
from qcompile.quant.rescalings.smoothquant import smoothquant

Settings = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Rescaling:
    name: str
    of: Callable[[Situation, Settings], Rescaled]


RESCALINGS = (
    Rescaling("equalize", lambda seen, _: equalize(seen)),
    Rescaling("smoothquant", lambda seen, given: smoothquant(seen, given["alpha"])),
    Rescaling("awq", lambda seen, given: awq(seen, int(given["grid"]))),
    Rescaling("ln_reparam", lambda seen, given: ln_reparam(seen, given["alpha"])),
)


def rescaling(name: str) -> Rescaling:
    return next(row for row in RESCALINGS if row.name == name)

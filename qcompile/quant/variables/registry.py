"""All variables, by the word of the recipe; a new one is a file of this folder and a line here."""

from qcompile.methods.axes import Variable as Name
from qcompile.quant.variables.additive import Additive
from qcompile.quant.variables.annealed import Annealed
from qcompile.quant.variables.categorical import Categorical
from qcompile.quant.variables.division import Division
from qcompile.quant.variables.fixed import Fixed
from qcompile.quant.variables.gate import Gate
from qcompile.quant.variables.variable import Start, Variable
from qcompile.quant.variables.weight import DirectWeight

VARIABLES: tuple[tuple[Name, type[Variable]], ...] = (
    ("gate", Gate),
    ("additive", Additive),
    ("division", Division),
    ("weight", DirectWeight),
    ("categorical", Categorical),
    ("annealed", Annealed),
)


def variable(start: Start) -> Variable:
    """That of the start's tuning; none where the rounding is not learned."""
    if "rounding" not in start.tuning.learn:
        return Fixed(start)
    return dict(VARIABLES)[start.tuning.variable](start)

"""What a recipe of a few rules is told of a small model."""

import torch

from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source
from qcompile.driver.bind import bind
from qcompile.driver.front import check_source
from tests.tiny_models import seeded

SEQUENCE = torch.zeros(2, 4, 8)
IMAGE = torch.zeros(2, 3, 8, 8)
SCHEMES = """
qrecipe 1
scheme w8a8 { weight int8; act uint8 }
scheme w8 { weight int8 }
scheme w4 { weight int4 }
scheme a8 { act uint8 }
scheme a4 { act uint4 }
scheme s8 { act int8 symmetric }
scheme u8 { act uint8 symmetric }
scheme levels { act power4; act2 log2_4 }
scheme small_floats { act fp8_e4m3; act2 fp6_e2m3 }
scheme mixed { act uint8; act2 uint4 }
scheme half { act uint8; act2 float }
"""


def findings(model, example, *rules):
    """Everything that is said of ``rules`` for the model, errors or not."""
    lines = "\n".join(f"  {rule}" for rule in rules)
    checked = check_source(Source("recipe", f"{SCHEMES}policy main {{\n{lines}\n}}\n"))
    assert checked.recipe is not None, checked.diagnostics
    try:
        return bind(checked.recipe, seeded(model), (example,)).diagnostics
    except CompileError as error:
        return error.diagnostics

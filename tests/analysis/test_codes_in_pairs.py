"""Every code about a model is given where it should be, and not where it should not."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qcompile.diagnostics.codes import Code
from tests.analysis.findings import IMAGE, SEQUENCE, findings
from tests.analysis.named_graphs import Layers, attention, dense_block
from tests.tiny_models import ConvNet, Mlp, ResidualNet

TESTS = Path(__file__).parents[1]


class Case(NamedTuple):
    model: nn.Module
    example: torch.Tensor
    rules: tuple[str, ...]

    @property
    def codes(self):
        return {item.code for item in findings(self.model, self.example, *self.rules)}


def sequence(program, *rules):
    return Case(Layers(program), SEQUENCE, rules)


def chain(m, x):
    return m.d(F.relu(m.c(F.relu(m.a(x)))))


def on_size(m, x):
    return m.a(x) if x.shape[0] > 2 else m.b(x)


def through_numpy(m, x):
    return m.b(torch.from_numpy(m.a(x).numpy()))


def both(m, x):
    return torch.where(x.sum() > 0, m.a(x), m.b(x))


def unknown(m, x):
    return m.c(torch.special.xlog1py(m.a(x), m.b(x)))


def known(m, x):
    return m.c(m.a(x) * torch.log1p(m.b(x)))


class Wide(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, 2)

    def forward(self, x):
        return self.fc(x)


class Table(nn.Module):
    """Multiplied by a parameter, as it is or through ``.T``."""

    def __init__(self, *, transposed):
        super().__init__()
        self.fc, self.weight = nn.Linear(8, 8), nn.Parameter(torch.empty(8, 8))
        self.transposed = transposed

    def forward(self, x):
        return self.fc(x) @ (self.weight.T if self.transposed else self.weight)


LONG = 2**31 // (128 * 255) + 1
"""Products of int8 and uint8 codes that no longer fit 32 bits."""

PAIRS: dict[Code, tuple[Case, Case]] = {
    Code.CANNOT_SHARE: (
        Case(ResidualNet(), IMAGE, ("use a8 for add", "share scale for first(conv)")),
        Case(ResidualNet(), IMAGE, ("use a8 for add", "share scale for inputs_of(add)")),
    ),
    Code.ADD_GRIDS: (
        Case(ResidualNet(), IMAGE, ('use mixed for "blocks.0.add"',)),
        Case(ResidualNet(), IMAGE, ("use a8 for add",)),
    ),
    Code.CONCAT_GRIDS: (
        sequence(dense_block, 'use half for "cat"'),
        sequence(dense_block, "use a8 for concat"),
    ),
    Code.FOLDED_NORM: (
        Case(ConvNet(), IMAGE, ("use w8a8 for conv", "use a8 for norm")),
        Case(ConvNet(), IMAGE, ("use w8a8 for conv or norm",)),
    ),
    Code.SPLIT_PROJECTIONS: (
        sequence(attention, "use w8 for linear", 'use w4 for "d"'),
        sequence(attention, "use w8 for linear", 'use w4 for "e"'),
    ),
    Code.FLOAT_ISLAND: (
        sequence(chain, 'use w8a8 for linear except "c"'),
        sequence(chain, "use w8a8 for linear"),
    ),
    Code.DANGLING_QUANTIZER: (
        Case(Mlp(), torch.zeros(2, 8), ('use a8 for "fc1"',)),
        Case(Mlp(), torch.zeros(2, 8), ('use w8a8 for "fc1"',)),
    ),
    Code.SENSITIVE_LAYERS: (
        sequence(chain, "use w4 for linear"),
        sequence(chain, "use w8 for linear", 'use w4 for "c"'),
    ),
    Code.WASTED_RANGE: (
        sequence(attention, 'use s8 for "matmul_1"'),
        sequence(attention, 'use a8 for "matmul_1"'),
    ),
    Code.NEGATIVES_CUT: (
        sequence(chain, 'use u8 for "a"'),
        sequence(chain, 'use u8 for "c"'),
    ),
    Code.UNKNOWN_OPERATION: (
        sequence(unknown, "use w8a8 for linear"),
        sequence(known, "use w8a8 for linear"),
    ),
    Code.ACCUMULATOR_OVERFLOW: (
        Case(Wide(LONG), torch.zeros(2, LONG), ("use w8a8 for linear",)),
        Case(Wide(LONG - 1), torch.zeros(2, LONG - 1), ("use w8a8 for linear",)),
    ),
    Code.FLOAT_PRODUCT: (
        Case(Table(transposed=True), torch.zeros(3, 8), ("use w8 for linear",)),
        Case(Table(transposed=False), torch.zeros(3, 8), ("use w8 for linear",)),
    ),
    Code.NOT_TRACEABLE: (
        sequence(through_numpy, "use w8 for linear"),
        sequence(both, "use w8 for linear"),
    ),
    Code.SPECIALISED: (
        sequence(on_size, "use w8 for linear"),
        sequence(both, "use w8 for linear"),
    ),
}
ELSEWHERE = {
    "analysis/test_target_check.py": (Code.NO_KERNEL, Code.TARGET_FILE),
    "data/test_weight_loading.py": (
        *(Code.NON_FINITE_WEIGHT, Code.WEIGHT_NAMES, Code.WEIGHT_SHAPE),
    ),
    "data/test_weight_file.py": (Code.WEIGHT_FILE,),
    "data/test_model_source.py": (Code.MODEL_REFERENCE, Code.MODEL_FACTORY),
    "emit/test_graph_round_trip.py": (Code.UNSTORABLE_OPERATION,),
    "cli/test_targets.py": (Code.TARGET_NOT_HERE,),
    "interop/test_capability.py": (Code.EXPORT_FORMAT,),
    "interop/test_onnx_emit.py": (Code.EXPORT_OPERATION,),
    "interop/test_pt2.py": (Code.EXPORT_INPUTS, Code.EXPORT_DIFFERS),
    "driver/test_transforms.py": (Code.NOTHING_TO_PREPARE,),
    "driver/test_rotations.py": (Code.NOT_ROTATED,),
    "interop/test_language_model_files.py": (Code.NOT_RUN_ELSEWHERE,),
    "driver/test_idle_limits.py": (Code.IDLE_LIMIT,),
    "driver/test_choose.py": (Code.NOT_CHOSEN,),
    "driver/test_requirements.py": (Code.REQUIREMENT_FAILED,),
    "driver/test_fallback.py": (Code.FELL_BACK,),
    "driver/test_recipe_test.py": (Code.TEST_FILE, Code.NOT_REPORTED),
}
"""Codes of files, targets, exports and runs: each file has what is refused and what is taken."""


@pytest.mark.parametrize("code", PAIRS, ids=str)
def test_code_is_given_in_the_first_case_and_not_in_the_second(code):
    wrong, right = PAIRS[code]
    assert code in wrong.codes
    assert code not in right.codes


def stated():
    """Codes of the literate specs: a recipe there gets the diagnostics that it states, no other."""
    texts = (path.read_text() for path in (TESTS / "specs").glob("*.md"))
    return {number for text in texts for number in re.findall(r"\[(QR\d+)\]", text)}


@pytest.mark.parametrize(
    "code", [code for code in Code if code.number[2] in "356" or code is Code.BLOCKS], ids=str
)
def test_every_code_about_a_model_is_in_a_pair_or_in_a_spec(code):
    elsewhere = {one for codes in ELSEWHERE.values() for one in codes}
    assert code in PAIRS or code in elsewhere or code.number in stated()


@pytest.mark.parametrize("name", ELSEWHERE)
def test_codes_that_are_shown_elsewhere_are_shown_there(name):
    text = (TESTS / name).read_text()
    for code in ELSEWHERE[name]:
        assert re.search(rf"{code.number}|Code\.{code.name}\b", text), code

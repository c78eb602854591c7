import json
from pathlib import Path

import pytest
import torch
from torch import nn

from qcompile.diagnostics.codes import Severity
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.bind import bind
from qcompile.driver.front import load_recipe

SCHEMES = """
scheme w8a8 { weight int8 per_channel; act uint8 asymmetric per_tensor dynamic }
scheme w4 { weight int4 per_group(8) }
"""


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 2)
        self.up = nn.ConvTranspose2d(8, 8, 3)
        self.fc = nn.Linear(8, 16)

    def forward(self, x):
        return self.fc(self.up(self.conv(x)).mean((2, 3)))


def bound(tmp_path, target, *rules):
    lines = "\n".join(rules)
    path = tmp_path / "a.qrecipe"
    statement = f'target "{target}"' if target else ""
    path.write_text(f"qrecipe 1\n{statement}{SCHEMES}policy main {{\n{lines}\n}}\n")
    return bind(load_recipe(path), Net(), (torch.randn(2, 4, 8, 8),))


def test_layers_without_a_kernel_are_named_with_what_would_work(tmp_path):
    found = bound(tmp_path, "x86-int8", "use w8a8 for linear", "use w4 for conv")
    (problem,) = (d for d in found.diagnostics if d.code.number == "QR507")
    assert problem.severity is Severity.WARNING
    assert problem.message == "2 layers left in float on `x86-int8`"
    assert problem.primary.span.text == '"x86-int8"'
    of_conv, of_transposed, *works = problem.notes
    assert of_conv == "conv: no kernel takes conv2d with weight int4 per_group(8), act float"
    assert of_transposed.startswith("up: no kernel takes conv_transpose2d with weight int4")
    assert works[0].startswith("a kernel for conv2d takes weight int2..int8/uint2..uint8 per_")


@pytest.mark.parametrize("target", ["simulate", None])
def test_the_reference_takes_every_layer(tmp_path, target):
    found = bound(tmp_path, target, "use w4 for linear or conv")
    assert [d for d in found.diagnostics if d.code.number == "QR507"] == []


def test_a_file_beside_the_recipe_may_refuse_a_layer(tmp_path):
    row = {"ops": ["conv2d"], "weight": "any", "act": "any", "outcome": "refuse", "because": "no"}
    target = {"name": "board", "title": "ours", "support": [row]}
    Path(tmp_path / "board.json").write_text(json.dumps(target))
    with pytest.raises(CompileError) as raised:
        bound(tmp_path, "board.json", "use w4 for conv")
    (problem,) = (d for d in raised.value.diagnostics if d.is_error)
    assert (problem.code.number, problem.notes) == ("QR507", ("conv: no",))
    assert problem.message == "1 layer refused on `board`"


@pytest.mark.parametrize(("bits", "codes"), [(16, ["QR517"]), (32, [])])
def test_sums_are_held_against_the_accumulator_of_the_target(tmp_path, bits, codes):
    row = {"ops": ["*"], "weight": "any", "act": "any", "outcome": "kernel", "kernel": "elsewhere"}
    target = {"name": "dsp", "title": "ours", "accumulator_bits": bits, "support": [row]}
    Path(tmp_path / "dsp.json").write_text(json.dumps(target))
    try:
        found = bound(tmp_path, "dsp.json", "use w8a8 for conv").diagnostics
    except CompileError as error:
        found = error.diagnostics
    problems = [d for d in found if d.code.number == "QR517"]
    assert [d.code.number for d in problems] == codes
    assert all("may not fit 16 bits" in d.message for d in problems)


def test_a_target_file_that_is_none_is_shown_at_its_name(tmp_path):
    with pytest.raises(CompileError) as raised:
        bound(tmp_path, "none.json", "use w4 for linear")
    (problem,) = (d for d in raised.value.diagnostics if d.is_error)
    assert (problem.code.number, problem.primary.span.text) == ("QR540", '"none.json"')

"""`prepare` from the recipe to the artifact."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import qcompile
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.front import load_recipe
from qcompile.driver.plan import make_plan
from qcompile.driver.prepared import prepared
from qcompile.driver.run import execute
from qcompile.driver.run_options import RunOptions

HEAD = """qrecipe 1
model "net:net"
scheme a { weight int8 per_channel; act uint4 asymmetric per_tensor }
policy main { use a for linear }
tune rtn
"""
DATA = 'calibrate { data = "mem"; samples = 32; batch = 8; seed = 1 }\n'


class Block(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, 24), nn.Linear(24, width)

    def forward(self, x):
        return x + self.fc2(torch.relu(self.fc1(self.norm(x))))


def net():
    torch.manual_seed(0)
    model = nn.Sequential(Block(), Block()).eval()
    with torch.no_grad():
        for block in model:
            block.norm.weight.copy_(torch.logspace(-1.5, 1, 12))
            block.norm.bias.copy_(torch.linspace(-2, 2, 12))
    return model


def inputs():
    return torch.randn(64, 5, 12, generator=torch.Generator().manual_seed(1))


def planned(tmp_path, *lines, head=HEAD, data=DATA, model=None):
    path = tmp_path / "a.qrecipe"
    path.write_text(head + data + "".join(f"{line}\n" for line in lines))
    bound = qcompile.bind(load_recipe(path), model or net(), (inputs()[:2],))
    return make_plan(bound, TensorDataset(inputs()))


def places(made):
    return [(t.name, t.target, t.readers) for t in made.plan.core.transforms]


def run(tmp_path, *lines, **given):
    made = planned(tmp_path, *lines, **given)
    execute(made, tmp_path / "out", RunOptions(work=tmp_path / "runs", replace=True))
    return qcompile.load(tmp_path / "out"), json.loads((tmp_path / "out/report.json").read_text())


def codes(error):
    return [problem.code.number for problem in error.value.diagnostics]


def test_plan_lists_every_value_in_the_order_of_the_text(tmp_path):
    made = planned(tmp_path, "prepare ln_reparam", "prepare equalize")
    assert places(made) == [
        ("ln_reparam", "0.norm", ("0.fc1",)),
        ("ln_reparam", "1.norm", ("1.fc1",)),
        ("equalize", "0.fc1", ("0.fc2",)),
        ("equalize", "1.fc1", ("1.fc2",)),
    ]
    assert made.plan.core.transforms[2].settings[0].value == 2


def test_selector_is_for_the_layers_that_read(tmp_path):
    made = planned(tmp_path, 'prepare smoothquant for "1.*" { alpha = 0.7 }')
    assert places(made) == [
        ("smoothquant", "1.norm", ("1.fc1",)),
        ("smoothquant", "1.fc1", ("1.fc2",)),
    ]


@pytest.mark.parametrize("skipped", ["0.norm", "0.fc1"])
def test_skipped_layers_stay_out(tmp_path, skipped):
    head = HEAD.replace("policy main {", "policy main {\n").replace(
        "linear }", f'linear\n  skip "{skipped}"\n}}'
    )
    found = places(planned(tmp_path, "prepare ln_reparam", head=head))
    assert found == [("ln_reparam", "1.norm", ("1.fc1",))]


def test_layers_that_stay_float_are_left_alone(tmp_path):
    head = HEAD.replace("for linear", 'for "0.*" and linear')
    found = places(planned(tmp_path, "prepare ln_reparam", head=head))
    assert found == [("ln_reparam", "0.norm", ("0.fc1",))]


def test_run_quantizes_the_new_model_and_says_by_how_much_it_moved(tmp_path):
    plain, report = run(tmp_path)
    assert "prepared" not in report
    wanted, x = net()(inputs()), inputs()
    before = (plain(x) - wanted).square().sum()
    better, report = run(tmp_path, "prepare ln_reparam")
    assert (better(x) - wanted).square().sum() < before / 2
    assert report["prepared"]["output_difference"] < 1e-5
    values = report["prepared"]["values"]
    assert [row["value"] for row in values] == ["_0_norm", "_1_norm"]
    assert all(0 < row["least_factor"] < 1 < row["largest_factor"] for row in values)


def test_float_layers_of_the_artifact_hold_the_factors(tmp_path):
    head = HEAD.replace("weight int8 per_channel; ", "")  # all weights stay float
    loaded, _ = run(tmp_path, "prepare smoothquant", head=head)
    assert not torch.equal(loaded.get_submodule("0.norm").weight, net()[0].norm.weight)


def test_where_there_is_no_such_value(tmp_path):
    with pytest.raises(CompileError) as error:
        planned(tmp_path, 'prepare ln_reparam for "*.fc2"')
    assert codes(error) == ["QR532"]


def test_pattern_that_matches_nothing(tmp_path):
    with pytest.raises(CompileError) as error:
        planned(tmp_path, 'prepare ln_reparam for "nix"')
    assert "QR301" in codes(error)


def test_factors_need_data(tmp_path):
    head = HEAD.replace("act uint4 asymmetric per_tensor", "act uint4 asymmetric dynamic")
    with pytest.raises(CompileError) as error:
        planned(tmp_path, "prepare smoothquant", head=head, data="")
    assert codes(error) == ["QR211"]
    assert "smoothquant" in error.value.diagnostics[0].message


def test_a_preset_that_needs_data_says_which_line_brought_it(tmp_path):
    head = HEAD.replace("act uint4 asymmetric per_tensor", "act uint4 asymmetric dynamic")
    with pytest.raises(CompileError) as error:
        planned(tmp_path, 'tune repq for "0.*"', head=head, data="")
    (problem,) = error.value.diagnostics
    assert "preset `repq`" in problem.message
    assert problem.primary.span.text.startswith("tune repq")


class Masked(nn.Module):
    """Half of its outputs are minus infinity, and it holds an integer parameter."""

    def __init__(self):
        super().__init__()
        self.blocks = net()
        self.table = nn.Parameter(torch.arange(12), requires_grad=False)

    def forward(self, x):
        return torch.where(self.table < 6, self.blocks(x), torch.full_like(x, -torch.inf))


def test_infinities_of_a_mask_and_integer_parameters_are_no_difference(tmp_path):
    made = planned(tmp_path, "prepare ln_reparam", model=Masked().eval())
    _, (found,) = prepared(made, torch.device("cpu"))
    assert found.difference < 1e-5


class Steep(nn.Module):
    """Its output hangs on the last digits of the numbers before it."""

    def __init__(self):
        super().__init__()
        self.blocks = net()

    def forward(self, x):
        return torch.frac(1e6 * self.blocks(x))


def test_a_model_that_does_not_compute_the_same_any_more_is_not_quantized(tmp_path):
    with pytest.raises(CompileError) as error:
        run(tmp_path, "prepare ln_reparam", model=Steep().eval())
    assert codes(error) == ["QR911"]
    assert "`blocks_0_norm`" in error.value.diagnostics[0].notes[0]
    assert not (tmp_path / "out").exists()


def test_a_second_run_gives_the_same_bytes(tmp_path):
    found = []
    for _ in range(2):
        run(tmp_path, "prepare awq { grid = 5 }", "prepare smoothquant")
        found.append(Path(tmp_path / "out/model.safetensors").read_bytes())
    assert found[0] == found[1]


def test_repq_is_nearest_rounding_behind_ln_reparam(tmp_path):
    x, wanted = inputs(), net()(inputs())
    head = HEAD.replace("tune rtn\n", "")
    found = {}
    for name in ("tune rtn", "tune repq", "prepare ln_reparam\ntune rtn"):
        found[name], _ = run(tmp_path, name, head=head)
    errors = {name: (loaded(x) - wanted).detach().square().sum() for name, loaded in found.items()}
    assert errors["tune repq"] < errors["tune rtn"] / 2
    assert errors["tune repq"] == errors["prepare ln_reparam\ntune rtn"]


def test_a_preset_brings_its_transform_for_its_own_layers(tmp_path):
    found = places(planned(tmp_path, 'tune repq for "1.*"'))
    assert found == [("ln_reparam", "1.norm", ("1.fc1",))]


def test_what_the_recipe_states_goes_before_what_a_preset_brings(tmp_path):
    head = HEAD.replace("tune rtn\n", "tune repq\n")
    made = planned(tmp_path, 'prepare ln_reparam for "0.*" { alpha = 0.5 }', head=head)
    assert places(made) == [
        ("ln_reparam", "0.norm", ("0.fc1",)),
        ("ln_reparam", "1.norm", ("1.fc1",)),
    ]
    assert [one.settings[0].value for one in made.plan.core.transforms] == [0.5, 1.0]


def test_a_preset_may_find_nothing_to_prepare(tmp_path):
    head = HEAD.replace("tune rtn\n", 'tune rtn\ntune repq for "*.fc2"\n')
    assert places(planned(tmp_path, head=head)) == []

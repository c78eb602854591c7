"""`prepare rotate` from the recipe to artifact and exports."""

import io
import json

import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.utils.data import TensorDataset

import qcompile
from qcompile.audit.audit import audit
from qcompile.compat.cpu_features import multiplies_bytes
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.front import load_recipe
from qcompile.driver.plan import make_plan
from qcompile.driver.run import execute
from qcompile.driver.run_forecast import run_forecast
from qcompile.driver.run_options import RunOptions
from qcompile.emit.graph_decode import decode
from qcompile.emit.graph_document import GraphDocument, read_graph
from qcompile.emit.load import assemble
from qcompile.emit.stored_artifact import StoredArtifact, read_artifact
from qcompile.interop.capability import capability_of, check_plan
from qcompile.interop.onnx_emit import emit
from qcompile.interop.onnx_file import model_bytes
from qcompile.interop.pt2 import pt2_bytes
from tests.driver.test_run_forecast import SPEEDS
from tests.tiny_models import seeded

HEAD = """qrecipe 1
model "net:net"
scheme a { weight int8 per_channel; act uint4 asymmetric per_tensor }
policy main { use a for linear }
calibrate { data = "mem"; samples = 64; batch = 8; seed = 1 }
"""


class Block(nn.Module):
    """One channel of the norm is forty times as wide as the others, as in large transformers."""

    def __init__(self, width=32):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, 48), nn.Linear(48, width)

    def forward(self, x):
        return x + self.fc2(torch.relu(self.fc1(self.norm(x))))


def net():
    torch.manual_seed(0)
    model = nn.Sequential(Block(), Block(), nn.Linear(32, 3)).eval()
    with torch.no_grad():
        for block in model[:2]:
            block.norm.weight[7] = 40.0
            block.fc1.weight[:, 7] /= 40.0
    return model


def inputs():
    return torch.randn(64, 5, 32, generator=torch.Generator().manual_seed(1))


def planned(tmp_path, *lines, head=HEAD):
    path = tmp_path / "a.qrecipe"
    path.write_text(head + "\n".join((*lines, "tune rtn", "")))
    bound = qcompile.bind(load_recipe(path), net(), (inputs()[:2],))
    return make_plan(bound, TensorDataset(inputs()))


def run(tmp_path, *lines, **given):
    made = planned(tmp_path, *lines, **given)
    execute(made, tmp_path / "out", RunOptions(work=tmp_path / "runs", replace=True))
    return qcompile.load(tmp_path / "out")


def reference(tmp_path):
    """What exports start from."""
    stored = read_artifact(tmp_path / "out")
    assert isinstance(stored, StoredArtifact)
    return assemble(stored)


def blocks(made):
    found = [t for t in made.plan.core.transforms if t.name == "rotate"]
    return {t.target: t.settings[0].value for t in found}


def codes(error):
    return [problem.code.number for problem in error.value.diagnostics]


def test_plan_lists_layers_and_blocks(tmp_path):
    found = planned(tmp_path, "prepare rotate")
    assert blocks(found) == {"0.fc1": 32, "0.fc2": 16, "1.fc1": 32, "1.fc2": 16, "2": 32}
    rotated = found.bound.graph
    assert torch.allclose(rotated(inputs()), net()(inputs()), atol=1e-4)


def test_the_first_statement_that_selects_a_layer_rotates_it(tmp_path):
    lines = (
        'prepare rotate for "0.*" { block = 8 }',
        'prepare rotate for "*.fc1" { matrix = hadamard; block = 32 }',
    )
    assert blocks(planned(tmp_path, *lines)) == {"0.fc1": 8, "0.fc2": 8, "1.fc1": 32}


def test_layers_that_are_left_as_they_are_are_named(tmp_path):
    made = planned(tmp_path, "prepare rotate { block = 32 }")
    assert blocks(made) == {"0.fc1": 32, "1.fc1": 32, "2": 32}
    (problem,) = made.bound.diagnostics
    assert problem.code.number == "QR533"
    assert problem.notes[:2] == ("`0.fc2`", "`1.fc2`")


def test_multiplications_of_a_rotation_are_counted_once_in_float(tmp_path):
    plain = {one.key: one for one in planned(tmp_path).plan.beside.compute}
    turned = {one.key: one for one in planned(tmp_path, "prepare rotate").plan.beside.compute}
    more = 5 * 32 * 32  # tokens, inputs, block
    one, other = plain["0.fc1"], turned["0.fc1"]
    assert other.macs - one.macs == more
    assert other.bops_after - one.bops_after == more * 32 * 32
    assert other.bops_before == one.bops_before


def test_layers_in_float_are_left_alone(tmp_path):
    head = HEAD.replace("use a for linear", 'use a for linear and "0.*"\n skip "0.fc2"\n')
    assert set(blocks(planned(tmp_path, "prepare rotate", head=head))) == {"0.fc1"}
    head = HEAD.replace("policy", "scheme f { act float }\npolicy")
    head = head.replace("use a for linear", 'use a for linear\n use f for "2"\n')
    assert "2" not in blocks(planned(tmp_path, "prepare rotate", head=head))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("prepare rotate { block = 64 }", "QR532"),
        ('prepare rotate for "*.norm"', "QR532"),
        ("prepare rotate { block = 12 }", "QR410"),
        ("prepare rotate { block = 2048 }", "QR410"),
        ("prepare rotate { block = 1 }", "QR410"),
        ('prepare rotate for "zzz"', "QR301"),
        ('prepare rotate\nprepare rotate for "*.fc1" { block = 8 }', "QR532"),
    ],
)
def test_what_cannot_be_rotated_is_said(tmp_path, line, code):
    with pytest.raises(CompileError) as error:
        planned(tmp_path, line)
    assert codes(error) == [code]


def test_an_outlier_channel_costs_less_behind_a_rotation(tmp_path):
    wanted, x = net()(inputs()), inputs()
    head = HEAD.replace("use a for linear", 'use a for "*.fc1"')
    plain = (run(tmp_path, head=head)(x) - wanted).square().sum()
    turned = (run(tmp_path, "prepare rotate", head=head)(x) - wanted).square().sum()
    assert turned < 0.6 * plain


def test_artifact_has_no_tensor_for_a_rotation_and_passes_its_audit(tmp_path):
    made = planned(tmp_path, "prepare rotate")
    execute(made, tmp_path / "out", RunOptions(work=tmp_path / "runs"))
    document = json.loads((tmp_path / "out" / "graph.json").read_text())
    leaves = {leaf["path"]: leaf for leaf in document["leaves"]}
    assert leaves["0.fc1_rotation"]["class_name"] == "qcompile.BlockRotation"
    assert leaves["0.fc1_rotation"]["arguments"] == {"features": 32, "block": 32}
    assert not [t["name"] for t in document["tensors"] if "rotation" in t["name"]]
    assert audit(tmp_path / "out") == []


@pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")
def test_x86_kernels_take_rotated_inputs(tmp_path):
    model = run(tmp_path, "prepare rotate")
    fast = qcompile.load(tmp_path / "out", target="x86-int8")
    x = inputs()
    kernels = [n for n in fast.graph.nodes if "qlinear" in str(n.target)]
    assert len(kernels) == 5
    assert torch.allclose(fast(x), model(x), atol=1e-3)


def test_exports_that_keep_the_graph_keep_rotations(tmp_path):
    model, x = run(tmp_path, "prepare rotate"), inputs()[:8]
    read = onnx.load_from_string(
        model_bytes(emit(reference(tmp_path), "net", ("qcompile", "0"), {}))
    )
    (found,) = ReferenceEvaluator(read).run(None, {read.graph.input[0].name: x.numpy()})
    assert torch.allclose(torch.from_numpy(found), model(x), atol=1e-4)
    program = torch.export.load(io.BytesIO(pt2_bytes(model)))
    assert torch.equal(program.module()(x), model(x))


BALANCED = "prepare rotate { balance = true }"


def uneven(plain=net):
    """Its channels behind the norm have means and spreads of their own."""
    model = plain()
    with torch.no_grad():
        for block in model[:2]:
            block.norm.bias.copy_(torch.linspace(-4, 4, 32))
    return model


def test_plan_lists_what_a_balance_rewrites(tmp_path):
    made = planned(tmp_path, BALANCED)
    first = next(t for t in made.plan.core.transforms if t.target == "0.fc1")
    names = ("weight", "bias")
    assert first.parameters == (
        *(f"0.fc1.{name}" for name in names),
        "0.fc1_balance.shift",
        "0.fc1_balance.gain",
    )
    assert {one.name: one.value for one in first.settings} == {"balance": True, "block": 32}
    assert torch.allclose(made.bound.graph(inputs()), net()(inputs()), atol=1e-4)
    plain = planned(tmp_path, "prepare rotate")
    assert {one.name for t in plain.plan.core.transforms for one in t.settings} == {"block"}


def test_the_size_before_is_that_of_the_model_without_balances(tmp_path):
    plain, even = (planned(tmp_path, line).plan.core for line in ("prepare rotate", BALANCED))
    assert even.bytes_before == plain.bytes_before
    assert even.bytes_after - plain.bytes_after == 4 * 2 * (32 + 48 + 32 + 48 + 32)


def test_a_layer_without_a_bias_gets_one(tmp_path, monkeypatch):
    plain = net()
    plain[0].fc1.bias = plain[1].fc2.bias = None
    monkeypatch.setattr("tests.driver.test_rotations.net", lambda: plain)
    turned, even = (planned(tmp_path, line).plan.core for line in ("prepare rotate", BALANCED))
    assert even.bytes_before == turned.bytes_before
    assert even.bytes_after - turned.bytes_after == 4 * 2 * (32 + 48 + 32 + 48 + 32) + 4 * (48 + 32)
    assert "0.fc1.bias" in next(t for t in even.transforms if t.target == "0.fc1").parameters
    model, x = run(tmp_path, BALANCED), inputs()
    assert audit(tmp_path / "out") == []
    assert bool(reference(tmp_path).get_parameter("0.fc1.bias").any())
    assert (model(x) - plain(x)).square().mean() < 0.1 * plain(x).var()


def test_a_balance_needs_data(tmp_path):
    head = HEAD.replace("act uint4 asymmetric per_tensor", "act float").replace(
        'calibrate { data = "mem"; samples = 64; batch = 8; seed = 1 }\n', ""
    )
    planned(tmp_path, "prepare rotate", head=head)
    with pytest.raises(CompileError) as error:
        planned(tmp_path, BALANCED, head=head)
    assert codes(error) == ["QR211"]


def test_balanced_channels_cost_less_than_rotated_ones(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.driver.test_rotations.net", uneven)
    wanted, x = uneven()(inputs()), inputs()
    turned = (run(tmp_path, "prepare rotate")(x) - wanted).square().sum()
    even = (run(tmp_path, BALANCED)(x) - wanted).square().sum()
    assert even < 0.7 * turned
    report = json.loads((tmp_path / "out" / "report.json").read_text())["prepared"]
    assert report["output_difference"] < 1e-4
    values = {row["value"] for row in report["values"]}
    assert {row["transform"] for row in report["values"]} == {"rotate"}
    assert len(values) == 5


class Placed(nn.Module):
    """With a table of 24 places, whose end no shape tells."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(50, 32), nn.Parameter(torch.randn(24, 32))
        self.fc = nn.Linear(32, 4)

    def forward(self, ids):
        at = torch.arange(ids.shape[1])
        return self.fc(self.words(ids) + self.places[at])


@pytest.mark.parametrize("line", ["prepare rotate", BALANCED])
def test_samples_that_the_model_cannot_take_are_named(tmp_path, line):
    path = tmp_path / "a.qrecipe"
    path.write_text(f"{HEAD}{line}\ntune rtn\n")
    example = torch.zeros(2, 20, dtype=torch.int64)
    bound = qcompile.bind(load_recipe(path), seeded(Placed()), (example,))
    made = make_plan(bound, torch.zeros(64, 40, dtype=torch.int64))
    with pytest.raises(CompileError) as error:
        execute(made, tmp_path / "out", RunOptions(work=tmp_path / "runs"))
    assert codes(error) == ["QR702"]


def test_a_choice_is_measured_on_the_balanced_model(tmp_path):
    two = "scheme b { weight int2 }\npolicy main { choose b, a"
    head = HEAD.replace("policy main { use a", two)
    head += "budget { avg_bits(weight) <= 6; minimize loss_increase }\n"

    def losses(line):
        choice = planned(tmp_path, line, head=head).plan.beside.choice
        rungs = [rung for group in choice.groups for rung in group.rungs]
        return [rung.loss_increase for rung in rungs], {rung.candidate for rung in rungs}

    (plain, names), (even, others) = losses("prepare rotate"), losses(BALANCED)
    assert plain != even
    assert names.isdisjoint(others)  # what was measured of one is not taken for the other


def test_artifact_holds_a_balance_and_passes_its_audit(tmp_path):
    model = run(tmp_path, BALANCED)
    document = json.loads((tmp_path / "out" / "graph.json").read_text())
    leaves = {leaf["path"]: leaf for leaf in document["leaves"]}
    assert leaves["0.fc1_balance"]["class_name"] == "qcompile.ChannelBalance"
    assert leaves["0.fc1_balance"]["arguments"] == {"features": 32}
    assert audit(tmp_path / "out") == []
    assert bool((model.get_buffer("0.fc1_balance.gain") != 1).any())


def test_exports_that_keep_the_graph_keep_balances(tmp_path):
    model, x = run(tmp_path, BALANCED), inputs()[:8]
    read = onnx.load_from_string(
        model_bytes(emit(reference(tmp_path), "net", ("qcompile", "0"), {}))
    )
    (found,) = ReferenceEvaluator(read).run(None, {read.graph.input[0].name: x.numpy()})
    assert torch.allclose(torch.from_numpy(found), model(x), atol=1e-3)
    program = torch.export.load(io.BytesIO(pt2_bytes(model)))
    assert torch.equal(program.module()(x), model(x))


@pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")
def test_x86_kernels_take_balanced_inputs(tmp_path):
    model = run(tmp_path, BALANCED)
    fast = qcompile.load(tmp_path / "out", target="x86-int8")
    assert len([n for n in fast.graph.nodes if "qlinear" in str(n.target)]) == 5
    assert torch.allclose(fast(inputs()), model(inputs()), atol=1e-3)


def test_a_forecast_counts_the_batches_that_a_balance_looks_at(tmp_path):
    def seconds(line):
        made = planned(tmp_path, line)
        return run_forecast(made.bound, made.calibration, SPEEDS).seconds

    assert seconds(BALANCED) > seconds("prepare rotate")


def test_a_hostile_rotation_is_refused(tmp_path):
    run(tmp_path, "prepare rotate")
    file = tmp_path / "out" / "graph.json"
    text = file.read_text()
    for block in ("0", "32.0", "-4", "1048576", "true", '"32"'):
        document = json.loads(text)
        leaf = next(one for one in document["leaves"] if one["path"] == "0.fc1_rotation")
        leaf["arguments"]["block"] = json.loads(block)
        stored = read_graph(json.dumps(document).encode())
        assert isinstance(stored, GraphDocument)
        (problem,) = decode(stored, {}, [tensor.name for tensor in stored.tensors])
        assert problem.code.number == "QR909", block


@pytest.mark.parametrize("name", ["compressed-tensors", "gguf"])
def test_formats_that_hold_weights_alone_are_refused(tmp_path, name):
    head = HEAD.replace("act uint4 asymmetric per_tensor", "act float")
    head = head.replace("use a for linear", 'use a for "*.fc1"')
    head = head.replace(
        "int8 per_channel", "int8 per_group(32)" if name == "gguf" else "int8 per_channel"
    )
    made = planned(tmp_path, 'prepare rotate for "*.fc1"', head=head)
    found = check_plan(made.plan.core, capability_of(name))
    messages = [item.message for item in found]
    assert f"`{name}` cannot hold a layer whose inputs are rotated" in messages

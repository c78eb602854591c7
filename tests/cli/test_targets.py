import json
import re

import pytest
import torch
from click.testing import CliRunner

from qcompile.cli.lowering_view import lowering_text
from qcompile.cli.main import main
from qcompile.compat.cpu_features import multiplies_bytes
from qcompile.driver.load import load, lowering
from qcompile.targets.report import LoweredLayer, LoweringReport

pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")

RECIPE = """qrecipe 1
model "zoo:resnet20"
scheme w8a8 { weight int8 per_channel; act uint8 asymmetric per_tensor }
scheme w4 { weight int4 per_group(16) }
policy main { use w8a8 for conv; use w4 for linear }
calibrate { data = "zoo:fashion_mnist/calib"; samples = 32; batch = 32; seed = 1 }
evaluate top1 { data = "zoo:fashion_mnist/test"; batch = 50; samples = 50 }
"""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")
    (folder / "a.qrecipe").write_text(RECIPE.replace("; use", "\n  use"))
    arguments = ["run", str(folder / "a.qrecipe"), "-o", str(folder / "out")]
    done = CliRunner().invoke(main, [*arguments, "--work", str(folder / "runs")])
    assert done.exit_code == 0, done.output
    return folder / "out"


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_eval_shows_what_ran_in_kernels_and_what_did_not(artifact):
    done = invoke("eval", artifact, "--target", "x86-int8")
    assert done.exit_code == 0, done.output
    assert "x86-int8: 21 of 22 planned layers in kernels" in done.output
    assert "float: fc: no kernel takes linear with weight int4 per_group(16)" in done.output
    assert "differs from the simulation by" in done.output
    assert "inputs unchanged" in done.output
    assert "no layer differs from the float reference by more than" in done.output
    assert invoke("eval", artifact).output.splitlines()[-1] == done.output.splitlines()[-1]


def test_the_json_of_eval_and_verify_holds_every_layer(artifact):
    for command in ("eval", "verify"):
        done = invoke(command, artifact, "--target", "x86-int8", "--json")
        report = json.loads(done.stdout)["lowering"]
        assert len(report["layers"]) == 22
        assert [layer["key"] for layer in report["layers"] if layer["kernel"] is None] == ["fc"]
        assert report["checked"] == [2, 3]
        assert report["difference"] < 0.005


def test_verify_shows_the_kernels_after_the_hashes(artifact):
    done = invoke("verify", artifact, "--target", "x86-int8")
    assert done.exit_code == 0
    proved = re.search(r"all sizes hold\ninteger sums of (\d+) layers fit (\d+) bits", done.output)
    assert proved is not None
    assert "for any input\nx86-int8: 21 of 22" in done.output
    document = json.loads(invoke("verify", artifact, "--json").output)
    sums = document["integer_sums"]
    assert (len(sums), max(one["bits"] for one in sums)) == tuple(map(int, proved.groups()))
    assert all(one["low"] <= 0 <= one["high"] for one in sums)


@pytest.mark.parametrize(
    ("target", "code"), [("x86-int9", "QR201"), ("none.json", "QR540"), ("cuda-int8", "QR541")]
)
def test_a_target_that_cannot_be_had_is_an_error(artifact, target, code):
    if code == "QR541" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    done = invoke("verify", artifact, "--target", target)
    assert done.exit_code == 1
    assert f"error[{code}]" in done.output


def test_a_target_excludes_a_device(artifact):
    done = invoke("eval", artifact, "--target", "x86-int8", "--device", "meta")
    assert done.exit_code == 2


def test_load_gives_the_kernels_and_their_outputs_are_those_of_the_simulation(artifact):
    x = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found, expected = load(artifact, "x86-int8")(x), load(artifact)(x)
    assert torch.equal(found.argmax(1), expected.argmax(1))
    # pooling and the last layer are in float, and sum in the order of the memory layout
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    unchecked = lowering(artifact, "x86-int8", check=False)
    assert unchecked.report.checked == ()
    assert torch.equal(unchecked.module(x), found)


def test_equal_outputs_are_said_to_be_equal():
    report = LoweringReport("x86-int8", (), checked=(2, 3), difference=0.0, layer_difference=2e-7)
    (_, outputs, layers) = lowering_text(report).splitlines()
    assert outputs.split(" (")[0] == "  gives the outputs of the simulation, bit for bit"
    assert layers.endswith("by more than 2.0e-07")


def test_layers_are_counted_by_the_form_of_their_kernel():
    forms = ("compiled here", "compiled here", "torch's own: no")
    layers = tuple(
        LoweredLayer(str(number), "int4_weight_only", form=form)
        for number, form in enumerate(forms)
    )
    (_, ours, others, _) = lowering_text(LoweringReport("cpu-int4", layers)).splitlines()
    assert ours == "     2 x int4_weight_only (compiled here)"
    assert others == "     1 x int4_weight_only (torch's own: no)"

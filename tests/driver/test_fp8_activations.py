"""Weights and activations of small floats, from the recipe to artifact, exports and target."""

import pytest
import torch

import qcompile
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from qcompile.driver.load import verify
from qcompile.quant.fake_quantize import fake_quantize_e4m3
from tests.tiny_models import Mlp, seeded

TEXT = """qrecipe 1
scheme s {{
  weight fp8_e4m3
  act {act}
}}
policy main {{
  use s for linear
}}
{tune}
"""


def planned(act, tune="tune rtn"):
    torch.manual_seed(0)
    net = seeded(Mlp()).eval()
    x = torch.randn(64, *EXAMPLE)
    data = x if tune != "tune rtn" else None
    calibrate = 'calibrate { data = "given.as:tensor"; samples = 32; batch = 16; seed = 1 }\n'
    text = TEXT.format(act=act, tune=tune if data is None else calibrate + tune)
    recipe = check_source(Source("r.qrecipe", text)).recipe
    bound = qcompile.bind(recipe, net, (x[:2],))
    return net, x, qcompile.plan(bound, data), bound, data


EXAMPLE = (8,)


@pytest.mark.parametrize("act", ["fp8_e4m3 dynamic", "fp8_e4m3 per_token"])
def test_an_artifact_and_its_export_compute_what_the_run_did(tmp_path, act):
    net, x, plan, bound, data = planned(act)
    made = qcompile.run(plan, tmp_path / "out", bound=bound, data=data)
    assert verify(tmp_path / "out") == []
    loaded = qcompile.load(tmp_path / "out")
    expected = loaded(x)
    assert torch.equal(made(x), expected)
    assert 0 < (expected - net(x)).square().mean() / net(x).square().mean() < 0.01
    quantizers = [n for n in loaded.graph.nodes if n.target is fake_quantize_e4m3]
    assert [n.args[1] for n in quantizers] == ["per_token" in act] * len(quantizers)
    assert quantizers
    qcompile.export(tmp_path / "out", "pt2", tmp_path / "out.pt2")
    assert torch.equal(torch.export.load(tmp_path / "out.pt2").module()(x), expected)


@pytest.mark.parametrize("form", ["onnx", "gguf"])
def test_formats_that_hold_integers_refuse_them(tmp_path, form):
    _, _, plan, bound, data = planned("fp8_e4m3 per_token")
    qcompile.run(plan, tmp_path / "out", bound=bound, data=data)
    with pytest.raises(CompileError) as refused:
        qcompile.export(tmp_path / "out", form, tmp_path / "exported")
    assert {d.code.number for d in refused.value.diagnostics} == {"QR550"}


def test_layers_are_learned_behind_them(tmp_path):
    _, x, plan, bound, data = planned("fp8_e4m3 dynamic", "tune adaround { steps = 4 }")
    made = qcompile.run(plan, tmp_path / "out", bound=bound, data=data)
    assert torch.equal(qcompile.load(tmp_path / "out")(x), made(x))

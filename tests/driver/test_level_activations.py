"""Activations on levels that are no integers, from the recipe to artifact, exports and target."""

import pytest
import torch

import qcompile
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from qcompile.driver.load import lowering, verify
from qcompile.quant.level_activation import fake_quantize_blocks
from tests.tiny_models import AttentionBlock, ConvNet, Mlp, seeded

TEXT = """qrecipe 1
scheme s {{
  weight {weight}
  act {act}
}}
policy main {{
  use s for {sites}
}}
calibrate {{ data = "given.as:tensor"; samples = 32; batch = 16; seed = 1 }}
{tune}
"""
STATIC = (
    *("power4", "power4 exponent=0.5", "power3 per_channel(1)", "power4 observer=minmax"),
    *("log2_4", "logsqrt2_4", "fp8_e4m3", "fp8_e5m2", "fp6_e2m3", "fp6_e3m2"),
)
AT_RUN_TIME = (
    *("power4 exponent=0.5 per_token", "log2_3 dynamic", "logsqrt2_4 per_token"),
    *("fp8_e5m2 dynamic", "fp6_e2m3 per_token", "mxfp8", "mxfp6", "mxfp4", "nvfp4"),
)


SHAPES = {Mlp: (8,), AttentionBlock: (5, 16), ConvNet: (3, 8, 8)}


def planned(act, tune="tune rtn", weight="int8", sites="linear", net=None):
    torch.manual_seed(0)
    net = seeded(Mlp() if net is None else net).eval().requires_grad_(False)
    x = torch.randn(64, *SHAPES.get(type(net), (8,)))
    text = TEXT.format(act=act, tune=tune, weight=weight, sites=sites)
    checked = check_source(Source("r.qrecipe", text))
    assert checked.recipe is not None, checked.diagnostics
    bound = qcompile.bind(checked.recipe, net, (x[:2],))
    return net, x, qcompile.plan(bound, x), bound


def relative(found, wanted):
    return ((found - wanted).square().mean() / wanted.square().mean()).item()


@pytest.mark.parametrize("act", [*STATIC, *AT_RUN_TIME])
def test_an_artifact_and_its_export_compute_what_the_run_did(tmp_path, act):
    net, x, plan, bound = planned(act)
    made = qcompile.run(plan, tmp_path / "out", bound=bound, data=x)
    assert verify(tmp_path / "out") == []
    loaded = qcompile.load(tmp_path / "out")
    expected = loaded(x)
    assert torch.equal(made(x), expected)
    error = relative(expected, net(x))
    assert 0 < error < (1 if "log" in act else 0.2)  # a log format has nothing below zero
    qcompile.export(tmp_path / "out", "pt2", tmp_path / "out.pt2")
    assert torch.equal(torch.export.load(tmp_path / "out.pt2").module()(x), expected)


@pytest.mark.parametrize("form", ["onnx", "compressed-tensors", "gguf"])
@pytest.mark.parametrize("act", ["power4", "log2_4 dynamic", "mxfp8"])
def test_formats_that_hold_integers_refuse_them(tmp_path, act, form):
    _, x, plan, bound = planned(act)
    qcompile.run(plan, tmp_path / "out", bound=bound, data=x)
    with pytest.raises(CompileError) as refused:
        qcompile.export(tmp_path / "out", form, tmp_path / "exported")
    assert {d.code.number for d in refused.value.diagnostics} == {"QR550"}


@pytest.mark.parametrize("target", ["x86-int8", "cpu-int4"])
def test_a_target_leaves_such_layers_in_float_and_says_so(tmp_path, target):
    _, x, plan, bound = planned("power4", weight="int4 per_group(4)")
    made = qcompile.run(plan, tmp_path / "out", bound=bound, data=x)
    lowered = lowering(tmp_path / "out", target)
    assert {(layer.kernel, "power4" in layer.because) for layer in lowered.report.layers} == {
        (None, True)
    }
    assert torch.equal(lowered.module(x), made(x))


@pytest.mark.parametrize(
    "act", ["power4", "log2_3", "fp6_e3m2", "power4 exponent=0.5 per_token", "mxfp4"]
)
def test_layers_are_learned_behind_them(tmp_path, act):
    tune = "tune qdrop { steps = 6; batch = 16 }"
    _, x, plan, bound = planned(act, tune, weight="int3")
    made = qcompile.run(plan, tmp_path / "out", bound=bound, data=x)
    assert verify(tmp_path / "out") == []
    assert torch.equal(qcompile.load(tmp_path / "out")(x), made(x))


def test_the_probabilities_of_an_attention_have_levels_and_its_values_integers(tmp_path):
    scheme = "logsqrt2_4\n  act2 int8"
    net, x, plan, bound = planned(scheme, sites="nth(matmul, 1)", net=AttentionBlock())
    made = qcompile.run(plan, tmp_path / "out", bound=bound, data=x)
    names = {node.target.__name__ for node in made.graph.nodes if "fake" in str(node.target)}
    assert names == {"fake_quantize_levels", "fake_quantize"}
    assert verify(tmp_path / "out") == []
    assert torch.equal(qcompile.load(tmp_path / "out")(x), made(x))
    assert 0 < relative(made(x), net(x)) < 1e-3


@pytest.mark.parametrize(
    ("net", "sites", "axes"),
    [
        (ConvNet(), "conv", [("act", -3)]),
        (ConvNet(), "linear", [("act", -1)]),
        (AttentionBlock(), "nth(matmul, 0)", [("act", -1), ("act2", -2)]),
    ],
    ids=str,
)
def test_blocks_lie_along_the_axis_that_is_summed_over(tmp_path, net, sites, axes):
    net, x, plan, bound = planned("nvfp4", sites=sites, net=net)
    acts = [t for site in plan.core.sites for t in site.tensors if t.slot != "weight"]
    assert [(tensor.slot, tensor.block_axis) for tensor in acts] == axes
    made = qcompile.run(plan, tmp_path / "out", bound=bound, data=x)
    quantizers = [n for n in made.graph.nodes if n.target is fake_quantize_blocks]
    assert [node.args[4] for node in quantizers] == [axis for _, axis in axes]
    assert verify(tmp_path / "out") == []
    assert torch.equal(qcompile.load(tmp_path / "out")(x), made(x))
    assert 0 < relative(made(x), net(x)) < 0.05


@pytest.mark.parametrize(
    ("act", "code", "words"),
    [
        ("power4 dynamic", "QR405", "exponent=0.5"),
        ("power4 per_token", "QR405", "exponent=0.5"),
        ("log2_4 asymmetric", "QR405", "leave `asymmetric` out"),
    ],
)
def test_what_is_refused_comes_with_a_way_out(act, code, words):
    text = TEXT.format(act=act, tune="tune rtn", weight="int8", sites="linear")
    checked = check_source(Source("r.qrecipe", text))
    found = list(checked.diagnostics)
    if checked.recipe is not None:
        with pytest.raises(CompileError) as refused:
            planned(act)
        found = refused.value.diagnostics
    assert [(one.code.number, words in one.help) for one in found] == [(code, True)]


@pytest.mark.parametrize("act", ["mxfp4", "nvfp4"])
def test_rows_of_several_blocks_with_a_shorter_last_one(tmp_path, act):
    net = torch.nn.Sequential(torch.nn.Linear(8, 72), torch.nn.ReLU(), torch.nn.Linear(72, 4))
    net, x, plan, bound = planned(act, net=net)
    made = qcompile.run(plan, tmp_path / "out", bound=bound, data=x)
    expected = qcompile.load(tmp_path / "out")(x)
    assert torch.equal(made(x), expected)
    assert 0 < relative(expected, net(x)) < 0.1
    qcompile.export(tmp_path / "out", "pt2", tmp_path / "out.pt2")
    assert torch.equal(torch.export.load(tmp_path / "out.pt2").module()(x), expected)


def test_a_plan_without_blocks_says_nothing_of_their_axis(tmp_path):
    """So that its hash is what it was before there were any."""
    _, x, plan, bound = planned("power4")
    qcompile.run(plan, tmp_path / "out", bound=bound, data=x)
    assert "block_axis" not in (tmp_path / "out" / "plan.json").read_text()

"""A share of a range, from the recipe to artifact, exports and target."""

import pytest
import torch
from torch.nn import functional

import qcompile
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from qcompile.driver.load import lowering, verify
from qcompile.quant.fake_quantize import fake_quantize_dynamic
from tests.tiny_models import Mlp, seeded

TEXT = """qrecipe 1
scheme s {{
  act {act}
}}
policy main {{
  use s for linear
}}
calibrate {{
  data = "given.as:tensor"
  samples = 32
  batch = 16
  seed = 1
}}
tune rtn
"""


def planned(act):
    torch.manual_seed(0)
    net, x = seeded(Mlp()).eval(), torch.randn(64, 8)
    recipe = check_source(Source("r.qrecipe", TEXT.format(act=act))).recipe
    bound = qcompile.bind(recipe, net, (x[:2],))
    return net, x, qcompile.plan(bound, x), bound


@pytest.fixture
def artifact(tmp_path):
    def made(act):
        net, x, plan, bound = planned(act)
        module = qcompile.run(plan, tmp_path / "out", bound=bound, data=x)
        assert verify(tmp_path / "out") == []
        return net, x, module, tmp_path / "out"

    return made


@pytest.mark.parametrize("per_token", [True, False])
def test_the_artifact_computes_what_the_recipe_says(artifact, per_token):
    granularity = "per_token" if per_token else "dynamic"
    net, x, made, out = artifact(f"int4 asymmetric {granularity} observer=clip(0.8)")
    layers = [module for module in net.modules() if isinstance(module, torch.nn.Linear)]
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, args: fake_quantize_dynamic(args[0], -8, 7, False, per_token, 0.8)
        )
        for layer in layers
    ]
    expected = net(x)
    assert len(hooks) > 1
    assert torch.equal(made(x), expected)
    assert torch.equal(qcompile.load(out)(x), expected)
    qcompile.export(out, "pt2", out.parent / "out.pt2")
    assert torch.equal(torch.export.load(out.parent / "out.pt2").module()(x), expected)


@pytest.mark.parametrize("symmetry", ["symmetric", "asymmetric"])
def test_integer_kernels_clip_as_the_simulation_does(artifact, symmetry):
    _, x, _, out = artifact(f"int8 {symmetry} per_token observer=clip(0.7)\n  weight int8")
    lowered = lowering(out, "x86-int8")
    assert {layer.kernel for layer in lowered.report.layers} == {"onednn_qlinear_dynamic"}
    wanted = qcompile.load(out)(x)
    assert functional.mse_loss(lowered.module(x), wanted) < 1e-10 * wanted.square().mean()


def test_a_reader_that_covers_all_of_a_token_is_refused_such_a_file(artifact):
    *_, out = artifact("int8 symmetric per_token observer=clip(0.9)\n  weight int8")
    with pytest.raises(CompileError) as refused:
        qcompile.export(out, "compressed-tensors", out.parent / "exported")
    (problem,) = refused.value.diagnostics
    assert problem.code.number == "QR550"
    assert "found at run time and clipped" in problem.message

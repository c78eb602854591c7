"""ResNet-20 with a family of weight formats a block, from the recipe to the reloaded artifact."""

from pathlib import Path

import pytest
import torch

import qcompile
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.load import verify
from qcompile.driver.plan import plan_recipe
from qcompile.driver.progress import StopRequestedError
from qcompile.driver.run import RunOptions, execute
from qcompile.zoo import fashion_mnist
from tests.policy.compiled import marked

SLOTS = {
    "layers.0.**": "codebook4",
    "layers.1.**": "nf4",
    "layers.2.**": "power4 exponent=0.8",
    "layers.3.conv1": "power4",
    "layers.4.**": "mxfp6",
    "layers.5.**": "nvfp4",
    "layers.6.**": "fp6_e3m2 per_tensor",
    "layers.7.conv1": "mxfp8",
    "layers.7.conv2": "mxfp4",
    "layers.8.**": "int2 + int2 + int2 per_group(32)",
    "fc": "fp8_e4m3",
}


def recipe(slots, more=""):
    lines = ["qrecipe 1", 'model "zoo:resnet20"']
    lines += [f"scheme s{n} {{ weight {slot} }}" for n, slot in enumerate(slots.values())]
    lines += ["policy main {", *(f'use s{n} for "{path}"' for n, path in enumerate(slots)), "}"]
    path = Path("r.qrecipe")
    path.write_text("\n".join(lines).replace('.**"', '.**" and conv') + "\n" + more)
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_family_runs_stops_continues_loads_and_keeps_the_decisions():
    planned = plan_recipe(recipe(SLOTS))
    weights = [t for site in planned.plan.core.sites for t in site.tensors]
    assert len({str(t.spec.format) for t in weights}) == len(SLOTS)
    execute(planned, Path("whole"), RunOptions(work=Path("state")))
    seen = []
    stopping = RunOptions(
        work=Path("state"), listener=seen.append, should_stop=lambda: len(seen) >= 6
    )
    with pytest.raises(StopRequestedError):
        execute(planned, Path("out"), stopping)
    execute(planned, Path("out"), RunOptions(work=Path("state")))
    name = "model.safetensors"
    assert Path("whole", name).read_bytes() == Path("out", name).read_bytes()
    assert verify("out") == []
    images = fashion_mnist.test()[0][:256]
    with torch.no_grad():
        found = qcompile.load("out")(images).argmax(1)
        expected = planned.bound.graph(images).argmax(1)
    assert float((found == expected).double().mean()) >= 0.9


def test_solvers_of_uniform_grids_say_which_would_serve_the_format():
    data = 'calibrate { data = "zoo:fashion_mnist/calib"; samples = 8; seed = 1 }\n'
    with pytest.raises(CompileError) as refused:
        plan_recipe(recipe({"fc": "nf4"}, data + "tune optq\n"))
    errors = [one for one in refused.value.diagnostics if one.code.number == "QR290"]
    assert marked(errors) == [("QR290", "weight nf4")]
    assert "`rtn` and `gradient`" in (errors[0].help or "")
    assert errors[0].notes == ("asked for: fc",)


def test_a_fitted_scale_of_nearest_rounding_on_levels_is_refused():
    data = 'calibrate { data = "zoo:fashion_mnist/calib"; samples = 8; seed = 1 }\n'
    with pytest.raises(CompileError) as refused:
        plan_recipe(recipe({"fc": "nf4"}, data + "tune rtn_gram\n"))
    (error,) = [one for one in refused.value.diagnostics if one.is_error]
    assert error.code.number == "QR290"
    assert error.message.startswith("`learn = scale` of nearest rounding on `nf4`")


def test_another_tune_for_the_layers_on_levels_is_enough():
    data = 'calibrate { data = "zoo:fashion_mnist/calib"; samples = 8; seed = 1 }\n'
    tunes = 'tune optq\ntune nupes for "fc" { learn = [rounding, scale] }\n'
    assert plan_recipe(recipe({"fc": "nf4"}, data + tunes)).plan.core.sites

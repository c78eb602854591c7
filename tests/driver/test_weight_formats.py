"""ResNet-20 with a family of weight formats a block, from the recipe to the reloaded artifact."""

from pathlib import Path

import pytest
import torch

import qcompile
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.load import verify
from qcompile.driver.plan import plan_recipe
from qcompile.driver.progress import StopRequestedError
from qcompile.driver.run import execute
from qcompile.driver.run_options import RunOptions
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


def agreement(artifact, planned):
    """With the float model, on images that nothing was fitted to."""
    images = fashion_mnist.test()[0][:256]
    with torch.no_grad():
        found = qcompile.load(artifact)(images).argmax(1)
        expected = planned.bound.graph(images).argmax(1)
    return float((found == expected).double().mean())


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
    assert agreement("out", planned) >= 0.9


DATA = 'calibrate { data = "zoo:fashion_mnist/calib"; samples = 8; batch = 4; seed = 1 }\n'


@pytest.mark.parametrize(
    ("tune", "what"),
    [("optq", "the solver `optq`"), ("rtn_gram", "`learn = scale` of nearest rounding")],
)
def test_solvers_of_one_term_say_which_would_serve_a_sum(tune, what):
    with pytest.raises(CompileError) as refused:
        plan_recipe(recipe({"fc": "int2 + int2"}, f"{DATA}tune {tune}\n"))
    errors = [one for one in refused.value.diagnostics if one.code.number == "QR290"]
    assert marked(errors) == [("QR290", "weight int2 + int2")]
    assert errors[0].message.startswith(f"{what} on `int2 + int2`")
    assert "`rtn` and `gradient`" in (errors[0].help or "")
    assert errors[0].notes == ("asked for: fc",)


def test_another_tune_for_the_layers_on_sums_is_enough():
    tunes = 'tune optq\ntune brecq for "fc" { variable = weight; learn = [rounding, scale] }\n'
    assert plan_recipe(recipe({"fc": "int2 + int2"}, DATA + tunes)).plan.core.sites


@pytest.mark.parametrize(
    "tune", ["hybrid", "rtn_gram", "hybrid { solver = [gram, cd]; steps = 4 }"]
)
def test_the_layer_solvers_serve_every_family(tune):
    slots = {path: slot for path, slot in SLOTS.items() if "+" not in slot}
    planned = plan_recipe(recipe(slots, f"{DATA}tune {tune}\n"))
    execute(planned, Path("out"), RunOptions(work=Path("state")))
    assert verify("out") == []
    assert agreement("out", planned) >= 0.9

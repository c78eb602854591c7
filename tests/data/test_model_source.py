import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from qcompile.data.model_source import load_model
from qcompile.data.weights import weights_sha256
from qcompile.diagnostics.codes import Code

NET = """
import torch
from torch import nn
def build(width=3): return nn.Linear(2, width).eval()
def training(): return nn.Linear(2, 3)
def half(): return nn.Sequential(nn.Linear(2, 3), nn.Dropout().train()).eval()
def inner():
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout()).eval()
    model[1].train()
    return model
def nothing(): pass
def state(): return build().state_dict()
def klass(): return nn.Linear
def meta(): return nn.Linear(2, 3, device="meta").eval()
def lazy(): return nn.LazyLinear(3).eval()
def poisoned():
    model = build()
    model.weight.data[0, 0] = float("nan")
    return model
class Net(nn.Module):
    pass
"""


@pytest.fixture
def root(project, write):
    write("net.py", NET)
    return project


@pytest.mark.parametrize("name", ["resnet20", "vit_small"])
def test_a_zoo_model_comes_with_its_weights_and_an_example(tmp_path, name):
    loaded, problems = load_model(f"zoo:{name}", root=tmp_path)
    assert problems == []
    assert loaded is not None
    assert not loaded.module.training
    assert loaded.example_inputs is not None
    state = loaded.module.state_dict()
    assert set(loaded.weights.names) == set(state)
    assert all(torch.equal(loaded.weights.tensor(key), state[key]) for key in state)


def test_without_a_file_the_factorys_own_parameters_are_the_weights(root):
    loaded, problems = load_model("net:build", args=(4,), root=root)
    assert problems == []
    assert loaded is not None
    assert loaded.weights.names == ("bias", "weight")
    assert torch.equal(loaded.weights.tensor("weight"), loaded.module.state_dict()["weight"])
    assert loaded.example_inputs is None


def test_a_weight_file_is_found_beside_the_recipe(root, tmp_path):
    tensors = {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
    save_file(tensors, root / "w.safetensors")
    loaded, problems = load_model(
        "net:build", weights=tmp_path.__class__("w.safetensors"), root=root
    )
    assert problems == []
    assert loaded is not None
    assert torch.equal(loaded.module.state_dict()["weight"], tensors["weight"])
    again, _ = load_model("net:meta", weights=root / "w.safetensors", root=root)
    assert again is not None
    assert weights_sha256(loaded.weights) == weights_sha256(again.weights)
    assert torch.equal(again.module(torch.ones(1, 2)), torch.full((1, 3), 2.0))


@pytest.mark.parametrize("reference", ["net:training", "net:inner"])
def test_train_mode_is_a_warning_and_is_left(root, reference):
    loaded, problems = load_model(reference, root=root)
    assert [problem.code for problem in problems] == [Code.TRAIN_MODE]
    assert not problems[0].is_error
    assert loaded is not None
    assert not any(inner.training for inner in loaded.module.modules())


@pytest.mark.parametrize(
    ("reference", "code", "words"),
    [
        ("net:nothing", Code.MODEL_FACTORY, "`None`"),
        ("net:state", Code.MODEL_FACTORY, "a `OrderedDict`"),
        ("net:klass", Code.MODEL_FACTORY, "the class `Linear`"),
        ("net:meta", Code.MODEL_FACTORY, "without data: `weight`, `bias`"),
        ("net:lazy", Code.MODEL_FACTORY, "without data: `weight`, `bias`"),
        ("net:poisoned", Code.NON_FINITE_WEIGHT, "1 NaN value"),
        ("zoo:resnet2", Code.MODEL_REFERENCE, "no model `zoo:resnet2`"),
        ("hf:minilm", Code.MODEL_REFERENCE, "`config.json` of the model cannot be read"),
        ("a.b:c.d", Code.MODEL_REFERENCE, "`a.b:c.d` is not a model reference"),
        ("safetensors:x", Code.MODEL_REFERENCE, "names data, not model"),
    ],
)
def test_every_bad_model_has_its_code(root, reference, code, words):
    loaded, problems = load_model(reference, root=root)
    assert loaded is None
    assert [problem.code for problem in problems if problem.is_error] == [code]
    assert words in problems[-1].message


def test_bad_weights_stop_the_load(root):
    save_file({"weight": torch.ones(3, 5), "bias": torch.zeros(3)}, root / "w.safetensors")
    loaded, problems = load_model("net:build", weights=root / "w.safetensors", root=root)
    assert loaded is None
    assert [problem.code for problem in problems] == [Code.WEIGHT_SHAPE]
    loaded, problems = load_model("net:build", weights=root / "no.safetensors", root=root)
    assert loaded is None
    assert [problem.code for problem in problems] == [Code.WEIGHT_FILE]


def test_a_zoo_model_takes_no_arguments(tmp_path):
    loaded, problems = load_model("zoo:resnet20", args=(1,), root=tmp_path)
    assert loaded is None
    assert [problem.code for problem in problems] == [Code.MODEL_REFERENCE]


def test_a_model_without_parameters_is_a_model(root):
    loaded, _ = load_model("net:Net", root=root)
    assert loaded is not None
    assert isinstance(loaded.module, nn.Module)
    assert loaded.weights.names == ()

import pytest
import torch
from torch import nn

from qcompile.data.weight_loading import load_into
from qcompile.data.weights import MemoryWeights
from qcompile.diagnostics.codes import Code


class Tied(nn.Module):
    def __init__(self, device=None):
        super().__init__()
        self.embed = nn.Embedding(5, 3, device=device)
        self.head = nn.Linear(3, 5, bias=False, device=device)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.embed(ids))


def net():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4))


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def codes(problems):
    return [problem.code for problem in problems]


def test_the_tensors_arrive():
    weights = {name: torch.full_like(value, 2) for name, value in net().state_dict().items()}
    model = net()
    assert load_into(model, MemoryWeights(weights)) == []
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_missing_tensors_are_named_with_the_nearest():
    weights = state(net())
    weights["3.wieght"] = weights.pop("3.weight")
    missing, unexpected = load_into(net(), MemoryWeights(weights))
    assert (missing.code, missing.message) == (
        Code.WEIGHT_NAMES,
        "the weights lack tensor `3.weight` of the model",
    )
    assert missing.notes == ("`3.weight`; the weights have `3.wieght`",)
    assert unexpected.code is Code.WEIGHT_NAMES
    assert unexpected.notes == ("`3.wieght`; the model has `3.weight`",)


def test_a_prefix_on_every_name_is_seen():
    weights = {f"module.{name}": value for name, value in state(net()).items()}
    problems = load_into(net(), MemoryWeights(weights))
    assert "starts with `module.`" in (problems[0].help or "")
    problems = load_into(nn.Sequential(net()), MemoryWeights(state(net())))
    assert "starts with `0.`" in (problems[0].help or "")


def test_a_batch_counter_may_be_absent():
    weights = state(net())
    del weights["1.num_batches_tracked"]
    assert load_into(net(), MemoryWeights(weights)) == []


def test_a_wrong_shape_shows_both():
    weights = state(net()) | {"3.weight": torch.zeros(4, 9)}
    (problem,) = load_into(net(), MemoryWeights(weights))
    assert problem.code is Code.WEIGHT_SHAPE
    assert problem.message == "`3.weight` is [4, 9] in the weights and [4, 8] in the model"


def test_integers_for_floats_are_refused_but_another_precision_is_not():
    weights = state(net()) | {"3.weight": torch.ones(4, 8, dtype=torch.int8)}
    (problem,) = load_into(net(), MemoryWeights(weights))
    assert problem.code is Code.WEIGHT_SHAPE
    assert "int8" in problem.message
    weights["3.weight"] = torch.ones(4, 8, dtype=torch.bfloat16)
    model = net()
    assert load_into(model, MemoryWeights(weights)) == []
    assert model[3].weight.dtype is torch.float32


def test_nan_and_inf_are_counted_per_tensor():
    weights = state(net())
    weights["3.weight"][0, :3] = torch.nan
    weights["3.weight"][1, 0] = torch.inf
    weights["1.running_mean"][1] = torch.nan
    problems = load_into(net(), MemoryWeights(weights))
    assert codes(problems) == [Code.NON_FINITE_WEIGHT] * 2
    assert problems[0].message == "`3.weight` has 3 NaN and 1 Inf values"
    assert problems[1].message == "`1.running_mean` has 1 NaN value"


def test_a_mask_buffer_may_hold_inf():
    model = nn.Linear(2, 2)
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    assert load_into(model, MemoryWeights(state(model))) == []


def test_on_an_error_nothing_is_copied():
    model = net()
    before = state(model)
    weights = {name: value + 1 for name, value in before.items()} | {"3.bias": torch.zeros(5)}
    assert codes(load_into(model, MemoryWeights(weights))) == [Code.WEIGHT_SHAPE]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["embed.weight", "head.weight"])
def test_one_name_of_a_tied_tensor_is_enough(name):
    model = Tied()
    value = torch.rand(5, 3)
    assert load_into(model, MemoryWeights({name: value})) == []
    assert torch.equal(model.head.weight, value)
    assert model.head.weight is model.embed.weight


def test_tied_tensors_that_differ_in_the_file_are_refused():
    weights = {"embed.weight": torch.zeros(5, 3), "head.weight": torch.ones(5, 3)}
    (problem,) = load_into(Tied(), MemoryWeights(weights))
    assert problem.code is Code.WEIGHT_NAMES
    assert load_into(Tied(), MemoryWeights(dict.fromkeys(weights, torch.ones(5, 3)))) == []


def test_meta_parameters_get_memory_and_stay_tied():
    model = Tied(device="meta")
    value = torch.rand(5, 3)
    assert load_into(model, MemoryWeights({"head.weight": value})) == []
    assert torch.equal(model.embed.weight, value)
    assert model.head.weight is model.embed.weight
    assert model(torch.tensor([1])).shape == (1, 5)

"""`learn = norm`: gain and bias of a norm move with the codes of the block around it."""

from dataclasses import replace

import pytest
import torch
from torch import fx, nn

from qcompile.capture.unit import Unit
from qcompile.passes.sweep import sweep
from qcompile.quant.quantized_weight import from_tensors
from tests.passes.test_reconstruct import CPU, W2, quick, setting

NORMS = {"block": ("norm.weight", "norm.bias")}


class Normed(nn.Module):
    """Pre-norm, with a gain that is far from one."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(12)
        self.first = nn.Linear(12, 16)
        self.act = nn.ReLU()
        self.second = nn.Linear(16, 12)

    def forward(self, x):
        return x + self.second(self.act(self.first(self.norm(x))))


def normed(tuning, *, norms=NORMS, seed=0):
    _, _, sites, data = setting(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    model = Normed().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
        model.norm.weight.abs_().add_(0.5)
    unit = Unit("block", ("norm", "first", "act", "second", "add"), ("x",), ("add",), True)
    weights = {
        name: site.model_copy(update={"tensors": site.tensors[:1]}) for name, site in sites.items()
    }
    assert all(site.tensors[0].spec == W2 for site in weights.values())
    module = fx.symbolic_trace(model)
    [outcome] = sweep(module, [unit], weights, data, tuning=tuning, norms=norms, seed=1, device=CPU)
    return model, outcome


def with_norm(tuning, **update):
    return replace(tuning, learn=(*tuning.learn, "norm"), **update)


@pytest.mark.parametrize("seed", range(4))
def test_a_norm_that_is_learned_lowers_the_held_out_error(seed):
    tuning = quick("brecq", learn=("rounding",))
    _, without = normed(tuning, norms={}, seed=seed)
    model, found = normed(with_norm(tuning), seed=seed)
    [(_, before)], [(_, account)] = without.accounts, found.accounts
    assert account.kept == "learned"
    assert account.learned < 0.95 * before.learned
    for path in NORMS["block"]:
        moved, own = found.tensors[path], model.get_parameter(path)
        assert moved.dtype == own.dtype
        assert not torch.equal(moved, own)
    assert NORMS["block"][0] not in without.tensors


def test_norms_may_be_learned_alone():
    _, found = normed(with_norm(quick("brecq", learn=())))
    _, nearest = normed(quick("rtn"), norms={})
    for name, tensor in nearest.tensors.items():
        assert torch.equal(tensor, found.tensors[name]), name
    [(_, account)] = found.accounts
    assert account.learned < 0.9 * account.nearest


def test_a_result_that_the_guard_refuses_has_the_norms_of_the_model(monkeypatch):
    monkeypatch.setattr("qcompile.passes.reconstruct.best", lambda errors: "start")
    model, found = normed(with_norm(quick("brecq", steps=20)))
    for path in NORMS["block"]:
        assert torch.equal(found.tensors[path], model.get_parameter(path))


def test_the_values_that_go_on_are_those_of_the_learned_norm():
    """The error of the unit's output is measured on what the next unit will read."""
    model, found = normed(with_norm(quick("brecq")))
    *_, data = setting()
    x = torch.cat([batch["x"] for batch in data])
    with torch.no_grad():
        wanted = model(x)
        for path in NORMS["block"]:
            model.get_parameter(path).copy_(found.tensors[path])
        for layer in (model.first, model.second):
            shape = tuple(layer.weight.shape)
            name = "first.weight" if layer is model.first else "second.weight"
            code = from_tensors(found.tensors, name, W2, shape, 0)
            layer.weight.copy_(code.dequantize(torch.float32))
        error = (model(x) - wanted).square().sum() / wanted.square().sum()
    assert found.output_error == pytest.approx(float(error), rel=1e-5)


def test_the_best_norm_so_far_is_what_patience_keeps():
    model, found = normed(with_norm(quick("brecq", patience=40, steps=200)))
    [(_, account)] = found.accounts
    assert account.kept == "learned"
    assert not torch.equal(found.tensors["norm.weight"], model.norm.weight)

import pytest
import torch
from torch import nn

from qcompile.capture.sites import find_sites
from qcompile.capture.trace import trace
from qcompile.passes.fold_batch_norm import FoldBatchNorm, FoldPair, foldable
from qcompile.passes.pipeline import run_passes
from qcompile.passes.remove_dropout import RemoveDropout
from tests.tiny_models import ConvNet, Mlp, ResidualNet, seeded

TOLERANCE = 1e-5
"""Folding reorders float32 sums; each weight is rounded once more."""


def image(rows=4, seed=0, channels=3):
    return torch.randn(rows, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


def norms(module):
    return [n for n in module.graph.nodes if "BatchNorm" in type(_leaf(module, n)).__name__]


def _leaf(module, node):
    return module.get_submodule(node.target) if node.op == "call_module" else None


def assert_close(ours, theirs):
    assert (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max()


PAIRS = (
    (nn.Sequential(nn.Conv1d(3, 4, 3, bias=False), nn.BatchNorm1d(4)), (2, 3, 9)),
    (nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), (2, 4, 8, 8)),
    (nn.Sequential(nn.Conv3d(2, 4, 2), nn.BatchNorm3d(4, affine=False)), (2, 2, 5, 5, 5)),
    (nn.Sequential(nn.ConvTranspose1d(3, 4, 3), nn.BatchNorm1d(4)), (2, 3, 9)),
    (nn.Sequential(nn.ConvTranspose2d(4, 6, 2, groups=2), nn.BatchNorm2d(6)), (2, 4, 8, 8)),
    (nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(5, eps=0.1)), (3, 8)),
)


@pytest.mark.parametrize(("model", "shape"), PAIRS, ids=lambda v: type(v[0]).__name__)
def test_folded_pair_computes_the_same(model, shape):
    model = seeded(model)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    module = trace(model, (x,), {}).module
    result = FoldBatchNorm().run(module)
    assert result.changed
    assert norms(result.module) == []
    with torch.no_grad():
        assert_close(result.module(x), model(x))


def test_folded_weight_is_the_closed_form_rounded_once():
    model = seeded(ConvNet())
    module = FoldBatchNorm().run(trace(model, (image(),), {}).module).module
    gain = model.bn.weight.double() / (model.bn.running_var.double() + model.bn.eps).sqrt()
    weight = (model.conv.weight.double() * gain.reshape(-1, 1, 1, 1)).float()
    bias = (model.bn.bias.double() - model.bn.running_mean.double() * gain).float()
    torch.testing.assert_close(module.conv.weight.data, weight.data, rtol=1e-7, atol=0)
    torch.testing.assert_close(module.conv.bias.data, bias.data, rtol=1e-6, atol=1e-7)


def test_residual_net_folds_everywhere_and_its_sites_stay_where_they_were():
    model = seeded(ResidualNet())
    module = trace(model, (image(),), {}).module
    result = FoldBatchNorm().run(module).module
    new = image(rows=3, seed=1)
    with torch.no_grad():
        assert_close(result(new), model(new))
    kept = [s.key for s in find_sites(module) if ".bn" not in s.key and s.key != "blocks.1.down.1"]
    assert [s.key for s in find_sites(result)] == kept


def test_model_and_first_graph_stay_bit_for_bit():
    model = seeded(ResidualNet())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    module = trace(model, (image(),), {}).module
    text = str(module.graph)
    FoldBatchNorm().run(module)
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert str(module.graph) == text
    assert len(norms(module)) == 5


def test_second_run_changes_nothing():
    once = FoldBatchNorm().run(trace(seeded(ConvNet()), (image(),), {}).module)
    twice = FoldBatchNorm().run(once.module)
    assert not twice.changed
    assert twice.module is once.module


def test_skipped_layer_or_norm_is_not_folded():
    module = trace(seeded(ResidualNet()), (image(),), {}).module
    keep = frozenset({"blocks.0.conv1", "blocks.1.down.1"})
    pairs = foldable(module, keep)
    assert pairs == (
        FoldPair("blocks.0.conv2", "blocks.0.bn2"),
        FoldPair("blocks.1.conv1", "blocks.1.bn1"),
        FoldPair("blocks.1.conv2", "blocks.1.bn2"),
    )
    result = FoldBatchNorm(keep).run(module).module
    assert [str(node.target) for node in norms(result)] == ["blocks.0.bn1", "blocks.1.down.1"]


class Branching(nn.Module):
    """What must not be folded: a value read twice, a layer called twice, features not on axis 1."""

    def __init__(self):
        super().__init__()
        self.read_twice, self.bn1 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.called_twice, self.bn2, self.bn3 = (
            nn.Conv2d(3, 3, 1),
            nn.BatchNorm2d(3),
            nn.BatchNorm2d(3),
        )
        self.linear, self.bn4 = nn.Linear(8, 8), nn.BatchNorm1d(24)
        self.tied, self.bn5 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.other = nn.Conv2d(3, 3, 1)
        self.other.weight = self.tied.weight

    def forward(self, x):
        y = self.read_twice(x)
        x = self.bn1(y) + y
        x = self.bn3(self.called_twice(self.bn2(self.called_twice(x))))
        x = self.bn4(self.linear(x.flatten(1, 2))).unflatten(1, (3, 8))
        return self.other(self.bn5(self.tied(x)))


def test_nothing_else_is_folded():
    module = trace(seeded(Branching()), (image(),), {}).module
    assert foldable(module, frozenset()) == ()


def test_pipeline_reports_whether_anything_changed():
    module = trace(seeded(Mlp()), (torch.ones(2, 8),), {}).module
    passes = (FoldBatchNorm(), RemoveDropout())
    result = run_passes(module, passes)
    assert result.changed
    assert not run_passes(result.module, passes).changed

"""`augment = distribution_correction`: inputs that bring batch norms what they saw in training."""

from dataclasses import dataclass

import pytest
import torch
from torch import fx, nn

from qcompile.capture.trace import trace
from qcompile.methods.axes import Augment
from qcompile.passes.block import Block, float_choice
from qcompile.passes.block_inputs import BlockInputs
from qcompile.passes.distribution_correction import DistributionCorrection, mismatch
from qcompile.passes.fold_batch_norm import FoldBatchNorm
from qcompile.passes.norm_statistics import NormStatistics, statistics
from tests.passes.test_reconstruct import CPU, quick

CORRECTS = quick("brecq", augment=Augment("distribution_correction"))


class Normed(nn.Module):
    def __init__(self, in_place):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=in_place)
        self.conv2, self.bn2 = nn.Conv2d(6, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))


@dataclass
class Made:
    block: Block
    training: torch.Tensor


def made(*, folds=True, in_place=False, shift=0.7, stretch=1.6):
    """A block that has seen its training data, and two batches that are shifted and stretched."""
    generator = torch.Generator().manual_seed(0)
    model = Normed(in_place)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
        training = torch.randn(64, 3, 8, 8, generator=generator)
        for norm in (model.bn1, model.bn2):
            norm.momentum = None  # the mean over all batches: one
        model.train()(training)
    model.eval()
    graph = trace(model, (training[:2],), {}).module
    graph = FoldBatchNorm().run(graph).module if folds else graph
    x = [torch.randn(16, 3, 8, 8, generator=generator) * stretch + shift for _ in range(2)]
    [placeholder] = graph.graph.find_nodes(op="placeholder")
    nodes = tuple(n for n in graph.graph.nodes if n.op.startswith("call_"))
    with torch.no_grad():
        targets = [graph(one.clone()) for one in x]
    quantized = {placeholder.name: [one + 0.1 for one in x]}
    block = Block(graph, CPU, nodes, nodes[-1].name, {}, quantized, {placeholder.name: x}, targets)
    return Made(block, training)


def noted(block):
    return statistics(block.module, block.nodes)


@pytest.mark.parametrize("folds", [True, False])
def test_what_a_norm_says_of_its_channels_is_true_of_its_training_data(folds):
    one = made(folds=folds)
    found = noted(one.block)
    assert len(found) == 2
    inputs = {name: one.training for name in one.block.plain}
    with torch.no_grad():
        values = one.block.values(float_choice(one.block), inputs)
    for name, wanted in found.items():
        channels = values[name].movedim(1, 0).flatten(1)
        assert torch.allclose(channels.mean(1), wanted.mean, atol=1e-4)
        assert torch.allclose(channels.std(1, correction=0), wanted.deviation, rtol=1e-2)
        assert float(mismatch(values[name], wanted)) < 1e-3


def test_a_norm_without_gain_and_bias_makes_zero_and_one():
    graph = fx.symbolic_trace(nn.Sequential(nn.BatchNorm1d(4, affine=False)).eval())
    (found,) = statistics(graph, graph.graph.nodes).values()
    assert torch.equal(found.mean, torch.zeros(4))
    assert torch.equal(found.deviation, torch.ones(4))
    untracked = nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False)).eval()
    graph = fx.symbolic_trace(untracked)
    assert statistics(graph, graph.graph.nodes) == {}


def test_mismatch_is_of_means_and_deviations_in_mean_deviations():
    x = torch.tensor([[1.0, 0.0], [3.0, 4.0]])  # channels with means 2, 2 and deviations 1, 2
    wanted = NormStatistics(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 3.0]))
    assert float(mismatch(x, wanted)) == pytest.approx(((0 + 0) + (1 + 1)) / 4 / 2)


@pytest.mark.parametrize("options", [{}, {"folds": False}, {"in_place": True}], ids=str)
def test_corrected_inputs_are_nearer_to_training_and_stay_near_themselves(options):
    one = made(**options)
    block = one.block
    ((name, values),) = block.plain.items()
    correction = DistributionCorrection(block)
    before = float(correction._mismatch({name: values[0].clone()}))
    moved = correction.change(0, {name: values[0]})[name]
    after = float(correction._mismatch({name: values[0] + moved}))
    assert after < 0.8 * before
    assert 0 < float(moved.std() / values[0].std()) < 0.2
    assert correction.change(0, {name: values[0]})[name] is moved


def test_inputs_in_place_or_not_are_corrected_alike():
    moves = []
    for in_place in (False, True):
        block = made(in_place=in_place).block
        ((name, values),) = block.plain.items()
        moves.append(DistributionCorrection(block).change(0, {name: values[0]})[name])
    assert torch.allclose(*moves, atol=1e-6)


def test_both_streams_are_moved_alike_and_the_target_with_them():
    block = made().block
    ((name, values),) = block.plain.items()
    fed = BlockInputs(block, CORRECTS, torch.Generator().manual_seed(0))(1, 0)
    moved = fed.inputs[name] - 0.1
    assert not torch.allclose(moved, values[1], atol=1e-3)
    with torch.no_grad():
        assert torch.allclose(fed.target, block.module(moved), atol=1e-5)
    assert fed.altered


def test_without_a_norm_nothing_is_moved():
    block = made().block
    for node in block.nodes:
        node.meta.clear()
    ((name, values),) = block.plain.items()
    assert DistributionCorrection(block).change(0, {name: values[0]}) == {}
    fed = BlockInputs(block, CORRECTS, torch.Generator().manual_seed(0))(1, 0)
    assert torch.equal(fed.inputs[name], values[1] + 0.1)

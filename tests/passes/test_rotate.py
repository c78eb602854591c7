"""Rotations in front of linear layers: orthogonal, undone by the weights, one for equal inputs."""

import pytest
import torch
from torch import nn

from qcompile.capture.node_meta import facts
from qcompile.capture.rotation import LARGEST_BLOCK, BlockRotation, hadamard
from qcompile.capture.trace import trace
from qcompile.passes.pipeline import run_passes
from qcompile.passes.rotate import Rotate, rotated_weight

SIZES = [2**power for power in range(1, 11)]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", SIZES)
def test_a_rotation_is_orthogonal_and_undoes_itself(size):
    matrix = hadamard(size)
    one = torch.eye(size, dtype=torch.float64)
    assert float((matrix @ matrix.T - one).abs().max()) < 1e-12
    assert torch.equal(matrix, matrix.T)
    narrow = hadamard(size, torch.float32).double()
    assert float((narrow @ narrow - one).abs().max()) < 1e-6
    assert (
        float(matrix.abs().std()) < 1e-12
    )  # all entries are as large: an outlier is spread evenly


@pytest.mark.parametrize("size", [0, 1, 3, 12, -4, 2 * LARGEST_BLOCK])
def test_other_sizes_have_no_matrix(size):
    with pytest.raises(ValueError, match="power of two"):
        hadamard(size)


@pytest.mark.parametrize(("features", "block"), [(0, 4), (6, 4), (4, 8)])
def test_features_are_whole_blocks(features, block):
    with pytest.raises(ValueError, match="no blocks"):
        BlockRotation(features, block)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_each_stretch_is_multiplied_by_the_matrix(dtype):
    x = draw(2, 3, 24).to(dtype)
    found = BlockRotation(24, 8)(x)
    assert (found.dtype, found.shape) == (dtype, x.shape)
    whole = torch.block_diag(*[hadamard(8)] * 3)
    exact = x.double() @ whole
    assert torch.allclose(found.double(), exact, atol=8 * torch.finfo(dtype).eps, rtol=0.02)
    weight = rotated_weight(x[0], 8)
    assert weight.dtype == dtype
    assert torch.allclose(weight.double(), exact[0], atol=torch.finfo(dtype).eps, rtol=0.01)


def test_a_single_outlier_is_spread_over_its_block():
    x = torch.zeros(1, 128)
    x[0, 5] = 100
    assert float(BlockRotation(128, 128)(x).abs().max()) == pytest.approx(100 / 128**0.5)


class Readers(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, 8), nn.Linear(16, 8, bias=False), nn.Linear(16, 8)
        self.out = nn.Linear(8, 16)

    def forward(self, x):
        return x + self.out(self.q(x) * self.k(x) + self.v(x))


def graph_of(model, x):
    return trace(model.eval(), (x,), {}).module


def test_function_and_original_stay_and_equal_inputs_share_a_rotation():
    torch.manual_seed(0)
    model, x = Readers(), draw(4, 5, 16)
    module = graph_of(model, x)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    blocks = {"q": 16, "k": 16, "v": 8, "out": 4}
    found = run_passes(module, (Rotate(blocks),))
    assert found.changed
    with torch.no_grad():
        assert torch.allclose(found.module(x), model(x), atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    rotations = [
        node
        for node in found.module.graph.find_nodes(op="call_module")
        if isinstance(found.module.get_submodule(node.target), BlockRotation)
    ]
    assert [str(node.target) for node in rotations] == ["q_rotation", "v_rotation", "out_rotation"]
    assert [user.target for user in rotations[0].users] == ["q", "k"]
    assert facts(rotations[0]).example == (4, 5, 16)
    assert not set(found.module.state_dict()) - set(before)


def test_nothing_asked_leaves_the_module():
    module = graph_of(Readers(), draw(2, 5, 16))
    assert run_passes(module, (Rotate({}),)).module is module

"""Rotations in front of linear layers: orthogonal, undone by the weights, one for equal inputs."""

import pytest
import torch
from torch import nn

from qcompile.capture.node_meta import facts
from qcompile.capture.rotation import BlockRotation, rotated, signs
from qcompile.capture.trace import trace
from qcompile.passes.pipeline import run_passes
from qcompile.passes.rotate import Rotate, rotations
from qcompile.policy.rotation import LARGEST_BLOCK

SIZES = [2**power for power in range(1, 11)]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def matrix(size):
    return signs(size).double() * size**-0.5


@pytest.mark.parametrize("size", SIZES)
def test_a_rotation_is_orthogonal_and_undoes_itself(size):
    found = matrix(size)
    one = torch.eye(size, dtype=torch.float64)
    assert float((found @ found.T - one).abs().max()) < 1e-12
    assert torch.equal(found, found.T)
    assert signs(size).unique().tolist() == [-1, 1]  # exact in every type; an outlier is spread


@pytest.mark.parametrize("size", SIZES)
def test_the_signs_are_those_of_the_documents(size):
    """With bits counted one by one, as `docs/format.md` states it."""
    for i, j in ((0, 0), (1, size - 1), (size // 2, size // 2 - 1), (size - 1, size - 1)):
        pairs = sum((n >> k) & (n >> (k + 1)) & 1 for n in (i, j) for k in range(0, 10, 2))
        assert signs(size)[i, j] == (-1) ** ((i & j).bit_count() + pairs)


@pytest.mark.parametrize("size", SIZES)
def test_a_mean_is_spread_as_evenly_as_an_outlier(size):
    """What an activation function leaves is one-sided: no output may gather its mean."""
    assert float((torch.ones(size, dtype=torch.float64) @ matrix(size)).abs().max()) < 1.42


@pytest.mark.parametrize("size", [0, 1, 3, 12, -4, 2 * LARGEST_BLOCK, 8.0, True, "8"])
def test_other_sizes_have_no_matrix(size):
    with pytest.raises(ValueError, match="power of two"):
        BlockRotation(16, size)


@pytest.mark.parametrize(("features", "block"), [(0, 4), (6, 4), (4, 8), (8.0, 4)])
def test_features_are_whole_blocks(features, block):
    with pytest.raises(ValueError, match="no blocks"):
        BlockRotation(features, block)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_each_stretch_is_multiplied_by_the_matrix(dtype):
    x = draw(2, 3, 24).to(dtype)
    found = BlockRotation(24, 8)(x)
    assert (found.dtype, found.shape) == (dtype, x.shape)
    exact = x.double() @ torch.block_diag(*[matrix(8)] * 3)
    assert torch.allclose(found.double(), exact, atol=8 * torch.finfo(dtype).eps, rtol=0.02)
    assert torch.allclose(rotated(x[0], 8), exact[0], rtol=1e-12)


def test_a_single_outlier_is_spread_over_its_block():
    x = torch.zeros(1, 128)
    x[0, 5] = 100
    assert float(BlockRotation(128, 128)(x).abs().max()) == pytest.approx(100 / 128**0.5)


def test_the_table_goes_where_the_model_goes():
    assert BlockRotation(8, 8).to("meta").signs.is_meta
    assert BlockRotation(8, 8).bfloat16()(draw(2, 8).bfloat16()).dtype == torch.bfloat16
    with torch.inference_mode():
        leaf = BlockRotation(8, 8)
    x = draw(2, 8).requires_grad_()
    BlockRotation(8, 8)(x).sum().backward()  # not the other's table, made in inference mode
    assert leaf.signs.is_inference()
    assert x.grad is not None


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
    made = [
        node
        for node in found.module.graph.find_nodes(op="call_module")
        if isinstance(found.module.get_submodule(node.target), BlockRotation)
    ]
    assert [str(node.target) for node in made] == ["q_rotation", "v_rotation", "out_rotation"]
    assert [user.target for user in made[0].users] == ["q", "k"]
    assert facts(made[0]).example == (4, 5, 16)
    assert not set(found.module.state_dict()) - set(before)
    assert rotations(found.module) == {"q": 16, "v": 8, "out": 4}


def test_nothing_asked_leaves_the_module():
    module = graph_of(Readers(), draw(2, 5, 16))
    assert run_passes(module, (Rotate({}),)).module is module


class Written(nn.Module):
    """Both layers read one tensor, which changes between them."""

    def __init__(self, write):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.write = write

    def forward(self, x):
        h = x * 2
        y = self.a(h)
        self.write(h)
        return y + self.b(h)


def set_item(h):
    h[:, 0] = 0


def relu_of_a_view(h):
    h.view(-1).relu_()


def add_to_a_transposed(h):
    t = h.transpose(0, 1)
    t += 1


@pytest.mark.parametrize("write", [set_item, relu_of_a_view, add_to_a_transposed])
def test_a_value_that_is_written_to_is_rotated_again(write):
    torch.manual_seed(0)
    model, x = Written(write).eval(), draw(4, 8)
    found = run_passes(graph_of(model, x), (Rotate({"a": 8, "b": 8}),)).module
    with torch.no_grad():
        assert torch.allclose(found(x.clone()), model(x.clone()), atol=1e-5)


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(2))

    def forward(self, x):
        return self.parts[0](x) + self.parts[1](x)


def test_modules_do_not_share_a_rotation():
    """It would be an output of the first, which would be no block any more."""
    module = graph_of(Branches(), draw(2, 8))
    found = run_passes(module, (Rotate({"parts.0.0": 8, "parts.1.0": 8}),)).module
    names = [str(node.target) for node in found.graph.find_nodes(op="call_module")]
    assert [name for name in names if "rotation" in name] == [
        "parts.0.0_rotation",
        "parts.1.0_rotation",
    ]


class Taken(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.a = nn.Linear(8, 8)
        self.register_buffer("a_rotation", value)
        self.a_rotation_ = nn.Parameter(value.clone())

    def forward(self, x):
        return self.a(x) + self.a_rotation + self.a_rotation_


def test_names_of_the_model_are_not_taken():
    torch.manual_seed(0)
    model, x = Taken(draw(8)), draw(2, 8)
    found = run_passes(graph_of(model, x), (Rotate({"a": 8}),)).module
    assert "a_rotation__" in dict(found.named_modules())
    with torch.no_grad():
        assert torch.allclose(found(x), model(x), atol=1e-5)

import pytest
import torch
from torch import nn
from torch.nn import functional

from qcompile.capture.sites import find_sites
from qcompile.capture.trace import trace
from qcompile.policy.site import Kind
from tests.capture.traced_models import CASES


@pytest.fixture
def sites(captured):
    def by_key(name):
        _, _, found = captured(name)
        return {site.key: site for site in find_sites(found.module)}

    return by_key


@pytest.mark.parametrize("name", CASES)
def test_keys_are_unique_and_producers_come_before(captured, name):
    found = find_sites(captured(name)[2].module)
    assert len({site.key for site in found}) == len(found)
    for index, site in enumerate(found):
        assert site.index == index
        assert all(producer < index for producer in site.producers)


@pytest.mark.parametrize("name", CASES)
def test_every_matrix_of_the_model_is_the_weight_of_a_site(captured, name):
    _, model, found = captured(name)
    matrices = {path for path, p in model.named_parameters() if p.dim() > 1}
    owned = {site.weight.storage for site in find_sites(found.module) if site.weight}
    assert matrices - owned <= {"cls_token", "pos_embed"}


def test_convolution(sites):
    found = sites("residual_net")
    conv = found["blocks.1.conv1"]
    assert (conv.kind, conv.op) == (Kind.CONV, "torch.nn.Conv2d")
    assert conv.scopes == ("blocks", "blocks.1")
    assert (conv.groups, conv.kernel, conv.stride) == (1, (3, 3), (2, 2))
    assert (conv.in_features, conv.out_features, conv.params) == (4, 8, 4 * 8 * 9)
    assert conv.macs == 8 * 4 * 4 * (4 * 9)  # outputs of one sample times fan-in
    assert conv.weight.shape == (8, 4, 3, 3)
    assert conv.bias is None


def test_residual_add_in_place_is_an_add_with_two_operands(sites):
    found = sites("residual_net")
    add = found["blocks.1.add"]
    assert add.kind is Kind.ADD
    assert add.operands == ("blocks_1_bn2", "blocks_1_down_1")
    assert {found[key].index for key in ("blocks.1.bn2", "blocks.1.down.1")} == set(add.producers)


def test_depth_counts_weighted_sites_on_the_longest_path(sites):
    found = sites("residual_net")
    assert found["stem"].depth == 0
    # stem; conv1 bn1 conv2 bn2 of the first block
    assert found["blocks.1.conv1"].depth == 5
    # not the shorter way over `down`
    assert found["blocks.1.add"].depth == 9


def test_tied_and_twice_called_layers_are_shared(sites):
    found = sites("shared_net")
    assert set(found) == {"embed", "mix", "tanh", "mix@1", "tanh_1", "head"}
    assert found["head"].weight.storage == found["embed"].weight.path
    assert all(found[key].shared for key in ("embed", "mix", "mix@1", "head"))
    assert not found["tanh"].shared


def test_product_with_a_parameter_is_linear_with_its_axis(sites):
    found = sites("gpt2")
    c_attn = found["transformer.h.0.attn.c_attn"]
    assert (c_attn.kind, c_attn.op) == (Kind.LINEAR, "torch.addmm")
    assert (c_attn.output_axis, c_attn.in_features, c_attn.out_features) == (1, 32, 96)
    assert c_attn.bias.path == "transformer.h.0.attn.c_attn.bias"
    assert c_attn.macs == 7 * 32 * 96
    assert len(c_attn.operands) == 1
    assert found["lm_head"].weight.storage == "transformer.wte.weight"


def test_attention_inside_a_torch_composite_is_visible(sites):
    found = sites("encoder")
    packed = found["layers.0.self_attn.in_proj_weight"]
    assert (packed.in_features, packed.out_features) == (16, 48)
    assert found["layers.0.self_attn.out_proj"].kind is Kind.LINEAR
    attention = found["layers.0.self_attn.scaled_dot_product_attention"]
    assert len(attention.operands) == 3
    assert attention.macs == 2 * 2 * 5 * 5 * 8  # heads x queries x keys x width, twice


def test_matrix_products_and_softmax_of_plain_attention(sites):
    found = sites("attention_block")
    assert found["matmul"].macs == found["matmul_1"].macs == 2 * 5 * 5 * 8
    assert found["softmax"].kind is Kind.SOFTMAX
    assert found["qkv"].macs == 5 * 16 * 48


def test_masks_and_positions_are_no_sites(sites):
    rotary = [key for key in sites("llama") if "rotary" in key]
    assert rotary == []


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(6, 2, 3, 3))
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2)
        self.table = nn.Parameter(torch.ones(7, 4))

    def forward(self, x, ids):
        x = functional.conv2d(x, self.kernel, stride=2, groups=2)
        looked_up = functional.embedding(ids, self.table)
        return self.up(x) + 1, looked_up


def test_functions_with_parameters_and_transposed_convolutions():
    module = trace(Functional(), (torch.ones(2, 4, 9, 9), torch.zeros(2, 3).long()), {}).module
    kernel, table, up = find_sites(module)
    assert (kernel.path, kernel.groups, kernel.stride) == ("kernel", 2, (2, 2))
    assert (kernel.in_features, kernel.out_features) == (4, 6)
    assert kernel.macs == 6 * 4 * 4 * (2 * 9)
    assert (table.kind, table.weight.shape) == (Kind.EMBEDDING, (7, 4))
    assert (up.output_axis, up.in_features, up.out_features) == (1, 6, 4)
    assert up.macs == 6 * 4 * 4 * (2 * 4)  # inputs of one sample times fan-out

"""Bit operations against the sums a person would write down."""

from dataclasses import replace
from math import prod

import torch

from qcompile.analysis.compute import compute
from qcompile.capture.sites import find_sites
from qcompile.capture.trace import trace
from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from qcompile.policy.resolution import Resolution
from qcompile.policy.resolve import resolve
from qcompile.policy.site import Kind
from tests.tiny_models import AttentionBlock, ConvNet, seeded

HEAD = "qrecipe 1\nscheme w { weight int4 }\nscheme wa { weight int4\n act uint8 dynamic }\n"


def work(model, inputs, rules):
    checked = check_source(Source("r", HEAD + "policy main { " + rules + " }\n"))
    assert checked.recipe is not None, checked.diagnostics
    sites = find_sites(trace(model, inputs, {}).module)
    resolution, _ = resolve(checked.recipe, sites)
    return {one.key: one for one in compute(sites, resolution, {})}, sites


def test_convolution_and_head_of_a_small_network():
    found, _ = work(
        seeded(ConvNet()), (torch.randn(2, 3, 8, 8),), "use wa for conv\n use w for linear"
    )
    conv, head = 8 * 8 * 6 * 3 * 9, 6 * 5
    assert {key: one.macs for key, one in found.items()} == {"conv": conv, "fc": head}
    assert found["conv"].bops_before == conv * 32 * 32
    assert found["conv"].bops_after == conv * 4 * 8
    assert found["fc"].bops_after == head * 4 * 32  # the input of the head stays in float


def test_site_that_no_rule_selects_costs_what_it_did():
    found, _ = work(seeded(ConvNet()), (torch.randn(2, 3, 8, 8),), "use w for linear")
    assert found["conv"].bops_after == found["conv"].bops_before


def test_type_of_weights_that_we_never_quantize_counts_as_any_float():
    _, sites = work(seeded(ConvNet()), (torch.randn(2, 3, 8, 8),), "use w for linear")
    (conv,) = [site for site in sites if site.kind is Kind.CONV]
    tiny = replace(conv, weight=replace(conv.weight, dtype="float8_e4m3fn"))
    (one,) = compute([tiny], Resolution(()), {})
    assert one.bops_before == one.bops_after == one.macs * 32 * 32


def test_rotation_in_front_of_a_layer_multiplies_each_input_by_a_block_in_float():
    _, sites = work(seeded(ConvNet()), (torch.randn(2, 3, 8, 8),), "use w for linear")
    (head,) = [site for site in sites if site.kind is Kind.LINEAR]
    (plain,) = compute([head], Resolution(()), {})
    (rotated,) = compute([head], Resolution(()), {head.node: 2})
    assert rotated.macs == plain.macs + 6 * 2  # six inputs, each a sum of two
    assert rotated.bops_before == plain.bops_before
    assert rotated.bops_after == plain.bops_after + 6 * 2 * 32 * 32


def test_product_of_two_activations_multiplies_both_of_their_bits():
    found, sites = work(seeded(AttentionBlock()), (torch.randn(2, 5, 16),), "use wa for matmul")
    products = [site for site in sites if site.kind is Kind.MATMUL and site.weight is None]
    assert products
    for site in products:
        assert found[site.key].bops_after == found[site.key].macs * prod((8, 8))


def test_fused_attention_keeps_its_probabilities_in_float():
    class Fused(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.project = torch.nn.Linear(8, 24)

        def forward(self, x):
            q, k, v = self.project(x).reshape(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    found, sites = work(seeded(Fused()), (torch.randn(2, 5, 8),), "use wa for attention")
    (site,) = [site for site in sites if site.kind is Kind.ATTENTION]
    half = 2 * 5 * 5 * 4  # heads x queries x keys x width
    assert found[site.key].macs == 2 * half
    assert found[site.key].bops_after == half * 8 * 8 + half * 32 * 8

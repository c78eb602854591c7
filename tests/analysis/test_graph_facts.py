import torch
from torch import nn

from qcompile.diagnostics.source import Source
from qcompile.driver.bind import bind
from qcompile.driver.front import check_source
from qcompile.policy.graph_facts import GraphFacts
from tests.analysis.named_graphs import Layers, attention, gated_mlp, skip_over_a_block
from tests.tiny_models import AttentionBlock, ConvNet, ResidualNet, SharedNet, seeded

SCHEME = "qrecipe 1\nscheme w8a8 { weight int8; act uint8 }\npolicy main {\n"
SEQUENCE = torch.zeros(2, 4, 8)


def facts_of(model, example, rule="use w8a8 for conv or linear"):
    recipe = check_source(Source("recipe", f"{SCHEME}  {rule}\n}}\n")).recipe
    return bind(recipe, seeded(model), (example,)).facts


def fused(facts, kind):
    return [one.sites for one in facts.fusions if one.kind == kind]


class WithNorm(nn.Module):
    """A gated MLP behind a norm, whose parts go by the names that people give them."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.gate, self.up, self.down = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        y = self.norm(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


def test_projections_are_told_apart_by_what_becomes_of_them():
    assert fused(facts_of(Layers(attention), SEQUENCE), "qkv") == [("b", "c", "d")]
    assert fused(facts_of(Layers(gated_mlp), SEQUENCE), "gate-up") == [("b", "c")]
    both = Layers(lambda m, x: torch.relu(m.b(x)) + torch.relu(m.c(x)))
    assert fused(facts_of(both, SEQUENCE), "common-input") == [("b", "c")]


def test_a_norm_belongs_to_the_projections_behind_it_unless_others_read_it():
    found = facts_of(WithNorm(), SEQUENCE)
    assert fused(found, "norm-linear") == [("norm", "gate", "up")]


def test_a_layer_and_its_activation_are_one_once_the_norm_is_folded():
    assert fused(facts_of(ConvNet(), torch.zeros(2, 3, 8, 8)), "layer") == [("conv", "relu")]


def test_a_norm_that_is_kept_is_part_of_the_layer():
    recipe = "use w8a8 for conv\n  skip norm"
    found = facts_of(ConvNet(), torch.zeros(2, 3, 8, 8), recipe)
    assert fused(found, "layer") == [("conv", "bn", "relu")]


def test_calls_of_one_module_and_tied_parameters_share_a_weight():
    found = facts_of(SharedNet(), torch.zeros(2, 3, dtype=torch.long), 'use w8a8 for "mix"')
    assert {(one.storage, one.sites) for one in found.shared_weights} == {
        ("embed.weight", ("embed", "head")),
        ("mix.weight", ("mix", "mix@1")),
    }


def test_a_value_with_several_readers_lists_their_formats():
    found = facts_of(Layers(skip_over_a_block), SEQUENCE, 'use w8a8 for "b"')
    (shared,) = found.uses
    assert (shared.value, shared.sites, shared.formats) == ("a", ("b", "add"), ("uint8", "float"))


def test_blocks_name_the_blocks_that_they_read():
    found = facts_of(ResidualNet(), torch.zeros(2, 3, 8, 8))
    reads = {one.unit: one.reads for one in found.units}
    assert reads["blocks.0"] == ("stem",)
    assert reads["blocks.1"] == ("blocks.0",)


def test_sums_of_each_integer_layer_are_bounded_by_its_formats():
    found = facts_of(ConvNet(), torch.zeros(2, 3, 8, 8))
    conv, fc = found.accumulators
    assert (conv.site, conv.terms) == ("conv", 27)
    assert (conv.low, conv.high) == (-27 * 128 * 255, 27 * 128 * 255)
    assert (fc.terms, fc.bits) == (6, 19)


def test_a_sign_that_was_proved_is_listed():
    found = facts_of(AttentionBlock(), torch.zeros(2, 5, 16))
    bounds = {(one.site, one.slot): (one.low, one.high) for one in found.ranges}
    assert bounds["matmul_1", "act"] == (0.0, 1.0)
    low, high = bounds["fc2", "act"]
    assert -0.18 < low < -0.17
    assert high is None or high > 0


def test_what_no_output_needs_is_dead_and_a_write_is_needed():
    def program(m, x):
        y = m.a(x)
        y[:, :1] = 0.0
        return m.b(y)

    assert facts_of(Layers(program), SEQUENCE).dead == ()


def test_facts_survive_a_saved_plan():
    found = facts_of(ResidualNet(), torch.zeros(2, 3, 8, 8))
    assert GraphFacts.model_validate_json(found.model_dump_json()) == found

"""``select``: what may not move keeps its code, and the rest makes up for it."""

from functools import cache

import pytest
import torch
from torch import fx, nn

from qcompile.methods.axes import Select
from qcompile.passes.block import Block, BlockSite, Rounded, SolvedWeight, float_choice
from qcompile.passes.input_sizes import input_sizes
from qcompile.policy.core import TensorPlan
from qcompile.quant.quantized_weight import from_tensors, quantize_weight
from qcompile.quant.range_search import weight_range
from tests.passes.deep import CPU, RULE, W2, outcomes, quick


@cache
def swept(preset="brecq", select=None, **update):
    return outcomes(quick(preset, select=select or Select(), **update), batches=8)


def codes(found, name="first"):
    """Signed codes of the first block's layer."""
    shape = {"first": (16, 12), "second": (12, 16)}[name]
    stored = from_tensors(found[0].tensors, f"{name}.weight", W2, shape, 0)
    return (stored.dequantize(torch.float32) / stored.scale.view(-1, 1)).round()


@pytest.mark.parametrize("name", ["near_threshold", "salient", "random"])
def test_every_selection_leads_elsewhere_and_lowers_the_error(name):
    found = swept(select=Select(name, 0.5))
    assert not torch.equal(codes(found), codes(swept()))
    for other in {"near_threshold", "salient", "random"} - {name}:
        assert not torch.equal(codes(found), codes(swept(select=Select(other, 0.5))))
    assert found[0].output_error < 0.9 * swept("rtn")[0].output_error


@pytest.mark.parametrize(
    ("name", "first"),
    [("near_threshold", "rtn"), ("salient", "rtn"), ("random", "rtn"), ("random", "optq")],
)
def test_no_more_than_the_share_moves_away_from_where_it_starts(name, first):
    start = swept(preset=first)
    found = swept(select=Select(name, 0.25), solvers=(first, "gradient"))
    moved = [
        int((codes(found, layer) != codes(start, layer)).sum()) for layer in ("first", "second")
    ]
    assert max(moved) <= 0.25 * 192
    assert sum(moved) > 0


def test_a_share_of_next_to_nothing_moves_one_weight_at_most():
    found = swept(select=Select("random", 1e-6))
    changed = codes(found) != codes(swept("rtn"))
    assert int(changed.sum()) <= 1


def solved(module, path):
    weight = module.get_parameter(path).detach()
    plan = TensorPlan(
        slot="weight",
        spec=W2,
        parameter=path,
        storage=path,
        shape=tuple(weight.shape),
        bytes_before=0,
        bytes_after=0,
        decided_by=RULE,
    )
    start = Rounded(quantize_weight(weight, W2, 0, weight_range(weight, W2, 0)))
    return SolvedWeight(path, path, plan, weight, nearest=start, start=start)


def test_input_sizes_are_the_root_mean_squares_of_what_each_weight_meets():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.Flatten(), nn.Linear(54, 5))
    module = fx.symbolic_trace(model)
    x = torch.randn(3, 4, 3, 3)
    x[:, 1] *= 7
    nodes = [node for node in module.graph.nodes if node.op == "call_module"]
    paths = {nodes[0].name: "0.weight", nodes[2].name: "2.weight"}
    sites = {
        name: BlockSite(name, name, {}, {}, solved(module, path), {})
        for name, path in paths.items()
    }
    inputs = {nodes[0].args[0].name: [x]}
    block = Block(module, CPU, tuple(nodes), nodes[-1].name, sites, inputs, inputs, [model(x)])
    sizes = input_sizes(block, float_choice(block), [0])
    hidden = model[1](model[0](x)).detach()
    dense = hidden.square().mean(0).sqrt().expand(5, 54)
    assert torch.allclose(sizes["2.weight"], dense, rtol=1e-5)
    patches = nn.functional.unfold(x, 3, padding=1).view(3, 4, 9, 9)
    of_group = patches.square().mean((0, 3)).sqrt().view(2, 1, 2, 3, 3).expand(2, 3, 2, 3, 3)
    assert torch.allclose(sizes["0.weight"], of_group.reshape(6, 2, 3, 3), rtol=1e-5)

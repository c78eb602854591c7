import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

from qcompile.capture.block_search import innermost
from qcompile.capture.blocks import find_units
from qcompile.capture.extract import extract
from qcompile.capture.graph_view import graph_view
from qcompile.capture.sites import find_sites
from qcompile.capture.stretches import Stretch, computing_nodes
from qcompile.capture.trace import trace
from qcompile.diagnostics.codes import Code
from tests.capture.traced_models import CASES, tensors
from tests.tiny_models import AttentionBlock, seeded


class Record(fx.Interpreter):
    """Keeps the value of every node as it was when the node ran."""

    def __init__(self, module):
        super().__init__(module)
        self.values = {}

    def run_node(self, node):
        value = super().run_node(node)
        self.values[node.name] = value.clone() if isinstance(value, torch.Tensor) else value
        return value


def blocks(units):
    return [unit.name for unit in units if unit.is_block]


@pytest.mark.parametrize("name", CASES)
def test_units_hold_every_computing_node_once_in_order(captured, name):
    module = captured(name)[2].module
    units, diagnostics = find_units(module)
    assert diagnostics == []
    assert [n for unit in units for n in unit.nodes] == [n.name for n in computing_nodes(module)]
    assert len({unit.name for unit in units}) == len(units)


@pytest.mark.parametrize("name", CASES)
def test_units_run_one_after_another_reproduce_the_model(captured, name):
    case, _, found = captured(name)
    inputs = case.batch(3, 9, seed=5)
    hoisted = Record(found.module)
    with torch.no_grad():
        expected = tensors(hoisted.run(*inputs.values()))
        units, _ = find_units(found.module)
        inside = {node for unit in units for node in unit.nodes}
        cache = {key: value for key, value in hoisted.values.items() if key not in inside}
        for unit in units:
            made = extract(found.module, unit)(*(cache[item] for item in unit.inputs))
            cache.update(zip(unit.outputs, made, strict=True))
    (output,) = found.module.graph.find_nodes(op="output")
    made = tensors(fx.node.map_arg(output.args[0], lambda node: cache[node.name]))
    assert len(made) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(made, expected, strict=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("encoder", ["layers.0", "layers.1"]),
        ("llama", ["model.layers.0", "model.layers.1"]),
        ("bert", ["encoder.layer.0", "encoder.layer.1"]),
        ("gpt2", ["transformer.h.0", "transformer.h.1"]),
        ("residual_net", ["blocks.0", "blocks.1"]),
        ("resnet20", [f"layers.{n}" for n in range(9)]),
        ("vit", [f"blocks.{n}" for n in range(3)]),
        ("flat_residual", ["a1", "b1"]),
        ("mlp", []),
        ("conv_net", []),
    ],
)
def test_blocks_are_found(captured, name, expected):
    units, _ = find_units(captured(name)[2].module)
    assert blocks(units) == expected


def test_rest_is_cut_into_one_unit_a_layer(captured):
    units, _ = find_units(captured("mlp")[2].module)
    assert [unit.nodes for unit in units] == [("fc1", "act", "drop"), ("fc2",)]


def test_mask_and_rotary_tables_are_inputs_of_each_layer(captured):
    module = captured("llama")[2].module
    units, _ = find_units(module)
    first, second = (unit for unit in units if unit.is_block)
    assert set(first.inputs) - set(second.inputs) == {"model_embed_tokens"}
    side = set(first.inputs) & set(second.inputs)
    assert len(side) == 5  # mask, cos, sin, batch, length
    assert len(first.outputs) == len(second.outputs) == 1


def test_every_value_between_two_blocks_passes_the_output_of_the_first(captured):
    module = captured("resnet20")[2].module
    view = graph_view(module)
    nodes = {node.name: node for node in module.graph.nodes}
    units, _ = find_units(module)
    dominators = nx.immediate_dominators(view, nodes["x"])
    last = nodes[units[-1].nodes[-1]]
    chain = set()
    while last != dominators.get(last, last):
        chain.add(last)
        last = dominators[last]
    assert all(nodes[unit.outputs[0]] in chain for unit in units if unit.is_block)


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(8, 4), nn.Linear(4, 8)

    def forward(self, x):
        return x * self.up(self.down(x)).sigmoid()


class Layer(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(8, 8), nn.ReLU())


class GatedBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(Layer(), Layer(), Gate(), Layer())

    def forward(self, x):
        return x + self.body(x)


def test_a_gate_inside_a_block_is_no_block_of_its_own():
    model = seeded(nn.Sequential(nn.Linear(8, 8), GatedBlock(), GatedBlock()))
    units, _ = find_units(trace(model, (torch.ones(2, 8),), {}).module)
    assert blocks(units) == ["1", "2"]


def test_recipe_may_name_the_blocks(captured):
    module = captured("residual_net")[2].module
    units, diagnostics = find_units(module, each=["stem", "blocks"])
    assert diagnostics == []
    assert blocks(units) == ["stem", "blocks"]
    assert [unit.name for unit in units] == ["stem", "blocks", "fc"]


def test_group_joins_neighbours_and_leaves_the_other_blocks(captured):
    module = captured("resnet20")[2].module
    units, diagnostics = find_units(module, groups={"head": ["layers.8", "pool", "fc"]})
    assert diagnostics == []
    assert blocks(units) == [*(f"layers.{n}" for n in range(8)), "head"]
    assert units[-1].outputs == ("fc",)


def test_group_over_a_layer_that_is_not_named_is_refused(captured):
    module = captured("residual_net")[2].module
    _, diagnostics = find_units(module, groups={"ends": ["stem", "fc"]})
    assert [(d.code, d.subject) for d in diagnostics] == [(Code.BLOCKS, "ends")]


def test_overlapping_blocks_are_refused(captured):
    module = captured("residual_net")[2].module
    units, diagnostics = find_units(module, each=["blocks", "blocks.1"])
    assert [d.code for d in diagnostics] == [Code.BLOCKS]
    assert blocks(units) == ["blocks"]


def test_unknown_block_suggests_a_name(captured):
    module = captured("residual_net")[2].module
    _, diagnostics = find_units(module, each=["bloks.0"])
    assert diagnostics[0].help == "did you mean `blocks.0`?"


class WritesItsInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        x = self.first(x)
        view = x.view(-1, 4)
        return self.second(view.relu_())


def test_cached_values_survive_a_unit_that_writes_in_place():
    module = trace(seeded(WritesItsInput()), (torch.ones(2, 4),), {}).module
    units, _ = find_units(module, each=["first"])
    assert len(units) == 2
    cached = -torch.ones(3, 4)
    extract(module, units[1])(cached)
    assert torch.equal(cached, -torch.ones(3, 4))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = AttentionBlock()

    def forward(self, x):
        return self.block(self.block(x))


def test_each_call_of_a_shared_block_is_a_unit():
    module = trace(seeded(Twice()), (torch.ones(2, 5, 16),), {}).module
    units, _ = find_units(module, each=["block"])
    assert blocks(units) == ["block", "block@1"]
    keys = [site.key for site in find_sites(module)]
    assert "block.add_1" in keys
    assert "block.add_1@1" in keys


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), max_size=9))
def test_innermost_blocks_are_those_that_hold_no_other(extents):
    blocks = [Stretch(str(n), start, start + length) for n, (start, length) in enumerate(extents)]
    slowly = [one for one in blocks if not any(one.contains(other) for other in blocks)]
    assert sorted(innermost(blocks), key=lambda one: one.name) == slowly

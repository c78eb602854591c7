"""What is learned as one with `partition = stage` and `network`."""

from dataclasses import replace
from itertools import chain

import pytest
import torch
from torch import nn

from qcompile.analysis.joined_units import joined
from qcompile.capture.blocks import find_units
from qcompile.capture.trace import trace
from qcompile.methods.presets import preset

BRECQ = preset("brecq")
assert BRECQ is not None


class Block(nn.Module):
    def __init__(self, inside, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, out, 3, stride, 1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(inside, out, 1, stride)

    def forward(self, x):
        return self.skip(x) + self.conv2(self.conv1(x).relu())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        shapes = [(4, 4, 1), (4, 4, 1), (4, 8, 2), (8, 8, 1), (8, 8, 1)]
        self.blocks = nn.Sequential(*[Block(*shape) for shape in shapes])
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def net():
    captured = trace(Net().eval(), (torch.zeros(2, 1, 8, 8),), {})
    units, problems = find_units(captured.module)
    assert problems == []
    assert [unit.name for unit in units if unit.is_block] == [f"blocks.{n}" for n in range(5)]
    return captured.module, units


def names(net, partition, others=()):
    """Of the units; ``others`` are tuned in another way, or not at all."""
    graph, units = net
    tunings = {unit.name: replace(BRECQ, partition=partition) for unit in units}
    tunings |= {name: tuning for name, tuning in others if tuning is not None}
    for name in (name for name, tuning in others if tuning is None):
        del tunings[name]
    return [unit.name for unit in joined(graph, units, tunings)]


@pytest.mark.parametrize("partition", ["layer", "block"])
def test_layers_and_blocks_stay_as_they_are(net, partition):
    assert names(net, partition) == [unit.name for unit in net[1]]


def test_a_stage_is_blocks_of_one_output_shape(net):
    assert names(net, "stage") == ["stem", "blocks.0..blocks.1", "blocks.2..blocks.4", "head"]


def test_the_network_is_all_of_it(net):
    assert names(net, "network") == ["stem..head"]


def test_another_tuning_ends_a_stage_and_a_network(net):
    other = [("blocks.3", replace(BRECQ, steps=7))]
    ends = ["blocks.2", "blocks.3", "blocks.4"]
    assert names(net, "stage", other) == ["stem", "blocks.0..blocks.1", *ends, "head"]
    assert names(net, "network", other) == ["stem..blocks.2", "blocks.3", "blocks.4..head"]


def test_what_has_no_weight_to_quantize_ends_nothing_and_begins_nothing(net):
    floats = [("stem", None), ("blocks.3", None), ("head", None)]
    assert names(net, "stage", floats)[1:3] == ["blocks.0..blocks.1", "blocks.2..blocks.4"]
    assert names(net, "network", floats) == ["stem", "blocks.0..head"]


def test_nothing_is_joined_that_is_not_learned(net):
    graph, units = net
    tunings = {unit.name: replace(BRECQ, partition="network", solvers=("rtn",)) for unit in units}
    assert joined(graph, units, tunings) == units


@pytest.mark.parametrize("partition", ["stage", "network"])
def test_a_joined_unit_reads_and_makes_what_crosses_its_border(net, partition):
    graph, units = net
    tunings = {unit.name: replace(BRECQ, partition=partition) for unit in units}
    found = joined(graph, units, tunings)
    assert [*chain.from_iterable(one.nodes for one in found)] == [
        *chain.from_iterable(one.nodes for one in units)
    ]
    nodes = {node.name: node for node in graph.graph.nodes}
    for unit in found:
        inside = set(unit.nodes)
        read = {n for name in unit.nodes for n in nodes[name].all_input_nodes if n.op != "get_attr"}
        assert set(unit.inputs) == {node.name for node in read} - inside
        made = {name for name in inside if any(u.name not in inside for u in nodes[name].users)}
        assert set(unit.outputs) == made

from itertools import pairwise, product
from operator import add

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn
from torch.nn import functional as F

from qcompile.analysis.scale_sharing import Tie, binding, scale_classes, scale_ties, shortest_chain
from qcompile.capture.node_meta import NodeFacts, set_facts
from qcompile.capture.trace import trace
from tests.analysis.named_graphs import GRAPHS, Layers, Named

X = torch.zeros(2, 4, 8)
KNOWN = NodeFacts(shape=("s0", 8), example=(2, 8), dtype="float32")


def classes_of(program):
    module = trace(Layers(program), (X,), {}).module
    return {frozenset(found.values) for found in scale_classes(scale_ties(module))}


@pytest.mark.parametrize("named", GRAPHS, ids=lambda named: named.name)
def test_named_graph_has_the_classes_that_one_would_write_down(named: Named):
    assert classes_of(named.program) == {frozenset(text.split()) for text in named.classes}


def test_there_are_enough_named_graphs():
    assert len(GRAPHS) >= 25


# ---- random graphs against an oracle that knows nothing of the implementation ------------------

MOVES = (torch.flip, torch.clone, torch.transpose, F.max_pool1d)
FRESH = (torch.relu, torch.exp, torch.sigmoid, F.avg_pool1d)
CHOICES = (torch.maximum, torch.cat, torch.stack)
KINDS = ("move", "fresh", "choice", "add", "product", "input")


@st.composite
def programs(draw):
    """``(kind, variant, operands)`` for each value, operands being earlier values."""
    steps = [("input", 0, ())]
    for _ in range(draw(st.integers(1, 24))):
        kind = draw(st.sampled_from(KINDS))
        earlier = st.integers(0, len(steps) - 1)
        count = {"move": 1, "fresh": 1, "input": 0}.get(kind, 2)
        if kind == "choice":
            count = draw(st.integers(2, 4))
        operands = tuple(draw(earlier) for _ in range(count))
        steps.append((kind, draw(st.integers(0, 9)), operands))
    return steps


def graph_of(steps):
    graph, values = fx.Graph(), []
    for kind, variant, operands in steps:
        args = tuple(values[at] for at in operands)
        match kind:
            case "input":
                node = graph.placeholder(f"x{len(values)}")
            case "move":
                node = graph.call_function(MOVES[variant % len(MOVES)], args)
            case "fresh":
                node = graph.call_function(FRESH[variant % len(FRESH)], args)
            case "choice":
                target = CHOICES[variant % len(CHOICES)]
                given_args = args[:2] if target is torch.maximum else (list(args),)
                node = graph.call_function(target, given_args)
            case "add":
                node = graph.call_function(add, args)
            case _:
                node = graph.call_function(torch.mul, args)
        set_facts(node, KNOWN)
        values.append(node)
    graph.output(values[-1])
    return fx.GraphModule(nn.Module(), graph), values


def related(steps, is_integer):
    """All pairs of values that one operation ties, by the meaning of the operations alone."""
    pairs = set()
    for result, (kind, variant, operands) in enumerate(steps):
        read = operands[:2] if kind == "choice" and variant % len(CHOICES) == 0 else operands
        tied = set()
        passes_on = kind == "choice" and (is_integer(result) or len(set(read)) == 1)
        if kind == "move" or passes_on:
            tied = {*read, result}
        elif kind == "add" and is_integer(result):
            tied = set(read)
        pairs |= set(product(tied, tied))
    return pairs


def distances(count, pairs):
    """Floyd and Warshall; in ties, not in edges."""
    far = [[0 if a == b else 10**6 for b in range(count)] for a in range(count)]
    for a, b in pairs:
        if a != b:
            far[a][b] = 1
    for middle, a, b in product(range(count), repeat=3):
        far[a][b] = min(far[a][b], far[a][middle] + far[middle][b])
    return far


@settings(max_examples=60, deadline=None)
@given(programs(), st.integers(0, 2**24))
def test_classes_and_chains_agree_with_brute_force(steps, integer_joins):
    module, values = graph_of(steps)

    def is_integer(at):
        return bool(integer_joins >> (at % 24) & 1)

    place = {node: at for at, node in enumerate(values)}
    ties = binding(scale_ties(module), lambda node: is_integer(place[node]))
    far = distances(len(values), related(steps, is_integer))
    for a, b in product(range(len(values)), repeat=2):
        chain = shortest_chain(ties, [values[a]], [values[b]])
        if far[a][b] >= 10**6:
            assert chain == ()
        else:
            assert (chain[0], chain[-1]) == (values[a], values[b])
            assert sum(isinstance(vertex, Tie) for vertex in chain) == far[a][b]
            assert all(y in ties[x] for x, y in pairwise(chain))
    found = {
        frozenset(v for v in c if isinstance(v, fx.Node)) for c in nx.connected_components(ties)
    }
    expected = {
        frozenset(values[b] for b in range(len(values)) if far[a][b] < 10**6)
        for a in range(len(values))
    }
    assert found == expected


def test_classes_come_in_execution_order_with_their_joins():
    module = trace(Layers(lambda m, x: m.a(x) + m.b(x) + m.c(x)), (X,), {}).module
    first, second = scale_classes(scale_ties(module))
    assert (first.values, first.joins) == (("a", "b"), ("add",))
    assert (second.values, second.joins) == (("add", "c"), ("add_1",))

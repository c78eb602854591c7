"""Relations against a search that follows every path, on random graphs."""

import random
import time
from dataclasses import replace

import pytest

from qcompile.policy.neighbours import related
from qcompile.policy.site import Kind
from tests.policy.compiled import site


def graph(edges, kinds=None, ops=None):
    """``edges[i]`` are the producers of site ``i``."""
    kinds, ops = kinds or {}, ops or {}
    return [
        replace(
            site(i, f"s{i}", kinds.get(i, Kind.LINEAR), op=ops.get(i, "torch.nn.Linear")),
            producers=tuple(producers),
        )
        for i, producers in enumerate(edges)
    ]


def random_graph(seed, size=12):
    chance = random.Random(seed)
    return graph([[j for j in range(i) if chance.random() < 0.25] for i in range(size)])


def reaches(sites, start, goal):
    return any(p == start or reaches(sites, start, p) for p in sites[goal].producers)


@pytest.mark.parametrize("seed", range(20))
def test_relations_agree_with_a_search_over_all_paths(seed):
    sites = random_graph(seed)
    chance = random.Random(seed + 1000)
    chosen = frozenset(i for i in range(len(sites)) if chance.random() < 0.3)
    every = range(len(sites))
    assert related("input_of", sites, chosen) == {
        i for i in every if any(i in sites[c].producers for c in chosen)
    }
    assert related("output_of", sites, chosen) == {
        i for i in every if any(c in sites[i].producers for c in chosen)
    }
    assert related("follows", sites, chosen) == {
        i for i in every if any(reaches(sites, c, i) for c in chosen)
    }
    assert related("precedes", sites, chosen) == {
        i for i in every if any(reaches(sites, i, c) for c in chosen)
    }


CONV_NORM_ACT = {0: Kind.CONV, 1: Kind.NORM, 2: Kind.ACTIVATION}
BATCH_NORM = {1: "torch.nn.BatchNorm2d"}


def test_layer_batch_norm_and_activation_are_fused():
    sites = graph([[], [0], [1], [2]], CONV_NORM_ACT, BATCH_NORM)
    assert related("fused_with", sites, frozenset({0})) == {1, 2}
    assert related("fused_with", sites, frozenset({1})) == {0, 2}
    assert related("fused_with", sites, frozenset({0, 2})) == {0, 1, 2}
    assert related("fused_with", sites, frozenset({3})) == set()


def test_layer_norm_is_not_fused():
    sites = graph([[], [0], [1]], CONV_NORM_ACT, {1: "torch.nn.LayerNorm"})
    assert related("fused_with", sites, frozenset({0})) == set()


def test_value_that_something_else_reads_is_not_fused_away():
    sites = graph([[], [0], [0]], {0: Kind.CONV, 1: Kind.ACTIVATION, 2: Kind.ADD})
    assert related("fused_with", sites, frozenset({0})) == set()


def test_second_activation_is_not_fused():
    kinds = {0: Kind.CONV, 1: Kind.ACTIVATION, 2: Kind.ACTIVATION}
    sites = graph([[], [0], [1]], kinds)
    assert related("fused_with", sites, frozenset({0})) == {1}


def test_tied_sites_have_the_same_weight():
    sites = graph([[], [0], [1]])
    tied = replace(sites[2].weight, storage=sites[0].weight.storage)
    sites[2] = replace(sites[2], weight=tied)
    sites.append(replace(site(3, "s3", weight=False), producers=(2,)))
    assert related("same_weight_as", sites, frozenset({0})) == {2}
    assert related("same_weight_as", sites, frozenset({0, 2})) == {0, 2}
    assert related("same_weight_as", sites, frozenset({1, 3})) == set()


def test_long_chain_takes_linear_time():
    sites = graph([[i - 1] if i else [] for i in range(50_000)])
    began = time.monotonic()
    assert len(related("follows", sites, frozenset({0}))) == 49_999
    assert len(related("precedes", sites, frozenset({49_999}))) == 49_999
    assert time.monotonic() - began < 5

"""The loss of a tuning, from its words to the codes."""

import math
from dataclasses import replace
from functools import cache
from typing import get_args

import pytest
import torch

from qcompile.methods.axes import LossName, LossTerm
from qcompile.passes.block import Block, hard_choice
from qcompile.passes.objective import Fed, Objective
from qcompile.passes.sweep import sweep
from tests.passes.deep import CPU, LAYERS, UNITS, deep, outcomes, quick, site
from tests.passes.test_tail import streams_at

SHARE = {"trimmed": LossTerm("trimmed", share=0.1), "mse": LossTerm("mse", p=3.0)}
TERMS = [SHARE.get(name, LossTerm(name)) for name in get_args(LossName)]


@cache
def swept(*terms, preset="qdrop", **update):
    return outcomes(quick(preset, loss=terms or (LossTerm("mse"),), **update), batches=8)


def tensors(*terms, **update):
    return {name: t for one in swept(*terms, **update) for name, t in one.tensors.items()}


def same(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("term", TERMS, ids=str)
def test_every_loss_leads_elsewhere_than_the_mean_square(term):
    assert not same(tensors(term), tensors())


@pytest.mark.parametrize("term", TERMS, ids=str)
def test_every_loss_lowers_the_error_of_nearest_rounding(term):
    assert swept(term)[1].output_error < 0.9 * swept(preset="rtn")[1].output_error


@pytest.mark.parametrize("name", ["fisher", "prediction"])
def test_a_single_layer_too_is_learned_for_the_network_behind_it(name):
    found = swept(LossTerm(name), partition="layer")
    assert [name for one in found for name, _ in one.accounts] == list(LAYERS)
    assert found[1].output_error < 0.9 * swept(preset="rtn")[1].output_error


@pytest.mark.parametrize("name", ["brecq_fisher", "pdquant"])
@pytest.mark.parametrize("seed", [0, 1])
def test_presets_of_the_network_lower_their_loss_on_held_out_samples_and_its_error(name, seed):
    found = outcomes(quick(name), seed=seed, batches=8)
    accounts = [account for one in found for _, account in one.accounts]
    assert [account.kept for account in accounts] == ["learned", "learned"]
    assert all(account.held_out_samples == 16 for account in accounts)
    assert all(account.losses.learned < 0.9 * account.losses.nearest for account in accounts)
    nearest = outcomes(quick("rtn"), seed=seed, batches=8)[-1].output_error
    assert found[-1].output_error < 0.7 * nearest


def test_pdquant_without_its_prediction_is_qdrop_bit_for_bit():
    pdquant = quick("pdquant")
    silent = tuple(replace(term, weight=0) for term in pdquant.loss if term.name == "prediction")
    found = swept(*pdquant.loss[:1], *silent, preset="pdquant")
    assert all(same(a.tensors, b.tensors) for a, b in zip(found, swept(), strict=True))


def test_prediction_of_weight_zero_is_qdrop_bit_for_bit():
    assert same(tensors(LossTerm("mse"), LossTerm("prediction", weight=0)), tensors())


def test_prediction_beside_the_mean_square_is_neither_alone():
    both = tensors(LossTerm("mse"), LossTerm("prediction"))
    assert not same(both, tensors())
    assert not same(both, tensors(LossTerm("prediction")))
    other = LossTerm("prediction", weight=1, temperature=1)
    assert not same(both, tensors(LossTerm("mse"), other))


def test_terms_are_relative_to_their_first_values():
    """A loss in other units is the same loss: fisher of a constant gradient is the mean square."""
    objective = Objective(block(), (LossTerm("mse"), LossTerm("l1")), start())
    values = [torch.tensor(3.0), torch.tensor(5.0)]
    assert float(objective.total(values, [3.0, 5.0])) == objective.weight == 2
    assert float(objective.total([2 * value for value in values], [3.0, 5.0])) == 4


def block(tail=None):
    module, data = deep(batches=2)
    nodes = {node.name: node for node in module.graph.nodes}
    streams, runs = streams_at(module, data, ["x", "add"])
    inputs = {"x": streams.float_values("x")}
    targets = [values["add"] for values in runs]
    of = tuple(nodes[name] for name in UNITS[0].nodes)
    return Block(module, CPU, of, "add", {}, inputs, inputs, targets, tail)


def start():
    return hard_choice(block(), {}, {})


def test_a_loss_about_the_network_where_nothing_reaches_its_output_keeps_the_start():
    module, data = deep()
    sites = {"first": site(module, "first")}
    output = next(iter(module.graph.find_nodes(op="output")))
    x = next(iter(module.graph.find_nodes(op="placeholder")))
    output.args = (x,)
    module.recompile()
    tuning = quick("brecq", loss=(LossTerm("kl"),))
    [outcome, *_] = sweep(module, UNITS, sites, data, tuning=tuning, seed=1, device=CPU)
    [(_, account)] = outcome.accounts
    assert account.kept == "start"
    assert "does not depend" in account.note


def test_what_decides_is_the_loss_that_was_fitted():
    [(_, account)] = swept(LossTerm("kl"))[0].accounts
    losses = account.losses
    assert losses is not None
    assert losses.start == 1
    assert losses.nearest == 1
    assert math.isfinite(losses.learned)
    least = min(losses.start, losses.nearest, losses.learned)
    assert getattr(losses, account.kept) == least
    [(_, plain)] = swept()[0].accounts
    assert plain.losses is None


def test_held_out_loss_is_of_whole_batches_behind_the_quantized_prefix():
    objective = Objective(block(), (LossTerm("l1"),), start())
    assert objective.means(start(), [0, 1]) == [0]
    shifted = replace(block(), targets=[value + 0.5 for value in block().targets])
    [found] = Objective(shifted, (LossTerm("l1"),), start()).means(start(), [0, 1])
    assert found == pytest.approx(0.5, rel=1e-6)


def test_the_network_sees_inputs_that_are_not_altered():
    """PD-Quant's code: dropped inputs for the block, whole ones for the prediction."""
    _, data = deep(batches=1)
    one = block()
    seen = []

    def run(inputs):
        seen.append(inputs["x"])
        return one.run(start(), inputs)

    def tail(value, number, *, plain=False):
        return value

    objective = Objective(
        replace(one, tail=tail), (LossTerm("mse"), LossTerm("prediction")), start()
    )
    other = {"x": torch.zeros_like(data[0]["x"])}
    objective.pairs(run, Fed(other, one.targets[0], altered=True), 0)
    assert torch.equal(seen[0], other["x"])
    assert torch.equal(seen[1], data[0]["x"])
    seen.clear()
    objective.pairs(run, Fed(one.batch(0), one.targets[0]), 0)
    assert len(seen) == 1

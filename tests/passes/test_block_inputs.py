"""What a step of learning is fed with, and how long learning goes on."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from qcompile.methods.axes import Augment
from qcompile.passes.block import Block
from qcompile.passes.block_inputs import BlockInputs, kept_quantized
from qcompile.passes.held_out import leading
from tests.passes.deep import CPU, UNITS, deep, outcomes, quick
from tests.passes.test_tail import streams_at


@cache
def swept(**update):
    return outcomes(quick("brecq", **update), batches=8)


def tensors(**update):
    return {name: t for one in swept(**update) for name, t in one.tensors.items()}


def accounts(**update):
    return [account for one in swept(**update) for _, account in one.accounts]


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


CHOICES = [
    {"augment": Augment("noise", 0.2)},
    {"augment": Augment("mixup")},
    {"augment": Augment("cutmix")},
    {"inputs": "float"},
    {"inputs": "mixed"},
    {"drop": "gradual", "keep_quantized": 0.0},
    {"samples": 64},
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_choice_leads_elsewhere_and_still_lowers_the_error(choice):
    assert not same(tensors(**choice), tensors())
    nearest = outcomes(quick("rtn"), batches=8)[1].output_error
    assert swept(**choice)[1].output_error < 0.9 * nearest


def fed(**update):
    """Of a block whose quantized stream is 0.25 off, behind no quantizer."""
    module, data = deep(batches=2)
    nodes = {node.name: node for node in module.graph.nodes}
    streams, runs = streams_at(module, data, ["x"], shift=0.25)
    block = Block(
        module,
        CPU,
        tuple(nodes[name] for name in UNITS[0].nodes),
        "add",
        {},
        {"x": streams.quantized_values("x")},
        {"x": streams.float_values("x")},
        [values["add"] for values in runs],
    )
    generator = torch.Generator().manual_seed(0)
    inputs = BlockInputs(block, quick("brecq", **update), generator)
    return inputs(1, 0), data[1]["x"], module, block.targets[1]


@pytest.mark.parametrize("name", ["noise", "mixup", "cutmix"])
def test_the_target_of_a_changed_input_is_what_the_float_block_gives_for_it(name):
    found, plain, module, target = fed(augment=Augment(name, 0.5))
    changed = found.inputs["x"] - 0.25
    assert not torch.allclose(changed, plain)
    with torch.no_grad():
        wanted = changed + module.second(torch.relu(module.first(changed)))
    assert torch.allclose(found.target, wanted, atol=1e-5)
    assert not torch.allclose(found.target, target)
    assert found.altered


def test_inputs_are_of_one_stream_or_of_whole_samples_of_both():
    found, plain, _, target = fed()
    assert torch.equal(found.inputs["x"], plain + 0.25)
    assert not found.altered
    found, plain, _, _ = fed(inputs="float")
    assert torch.equal(found.inputs["x"], plain)
    assert found.altered
    found, plain, _, _ = fed(inputs="mixed")
    off = (found.inputs["x"] != plain).double().mean(1)
    assert set(off.tolist()) == {0.0, 1.0}
    assert torch.equal(found.target, target)


def test_a_gradual_drop_starts_in_float_and_ends_quantized():
    tuning = replace(quick("brecq"), drop="gradual", keep_quantized=0.0, steps=11)
    assert [kept_quantized(tuning, step) for step in (0, 5, 10)] == [0, 0.5, 1]
    assert kept_quantized(replace(tuning, drop="both", keep_quantized=0.3), 7) == 0.3
    found, plain, _, _ = fed(drop="gradual", keep_quantized=0.0)
    assert torch.equal(found.inputs["x"], plain)


def test_samples_are_the_first_whole_batches():
    assert leading(None, [16, 16, 4]) == 3
    assert leading(32, [16, 16, 4]) == 2
    assert leading(36, [16, 16, 4]) == 3
    assert leading(3, [16, 16, 4]) == 1
    [account, *_] = accounts(samples=64)
    assert account.held_out_samples == 16
    assert same(tensors(samples=128), tensors())


def test_samples_are_what_the_solvers_of_a_layer_see_too():
    few = outcomes(quick("optq", samples=32), batches=8)
    data = outcomes(quick("optq"), batches=8)
    assert not same(few[0].tensors, data[0].tensors)


def test_patience_ends_learning_early_and_keeps_the_best():
    [first, *_] = accounts(steps=100, patience=8)
    assert 20 <= first.steps < 100  # the warm-up does not count
    assert first.learned <= first.start
    assert not same(tensors(steps=100, patience=8), tensors(steps=100))
    [patient, *_] = accounts(steps=100, patience=1000)
    assert patient.steps == 100

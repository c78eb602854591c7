"""The parts of the block benchmark that need neither its models nor its data."""

import json

import pytest
import torch

from tests.bench.block_cell import Streams
from tests.bench.block_methods import FITTED, HELD_OUT, PREFIX, PUBLISHED, trials
from tests.bench.blocks import Result, as_markdown, text_of
from tests.bench.variant import Variant

TRIALS = list(trials(long=True))
ACCOUNT = {"start": 0.2, "learned": 0.15, "kept": "learned", "soft_share": 0.004}
FOUND = {
    "error": 0.15,
    "error_after_bias": 0.14,
    "error_fitted": 0.12,
    "seconds": 40.0,
    "cpu_seconds": 30.0,
    "seconds_a_step": 0.05,
    "accounts": [ACCOUNT],
}


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.label)
def test_every_trial_is_its_recipe_with_the_method_and_images_to_judge_it(trial):
    recipe = Variant(trial.recipe, text_of(trial, trial.method.tune)).recipe()
    tuning = recipe.tuning
    assert recipe.calibration.samples == FITTED + HELD_OUT
    assert tuning.samples == (FITTED if trial.method.samples else None)
    assert tuning.preset == trial.method.preset
    assert tuning.learns == bool(trial.method.steps)
    assert tuning.steps == trial.method.steps


@pytest.mark.parametrize("trial", TRIALS[:1], ids=lambda trial: trial.label)
def test_what_is_in_front_of_the_block_never_sees_the_images_that_judge(trial):
    recipe = Variant(trial.recipe, text_of(trial, PREFIX)).recipe()
    assert (recipe.tuning.preset, recipe.tuning.samples) == ("hybrid", FITTED)


def test_published_steps_are_asked_for_and_come_last():
    short = list(trials(long=False))
    assert TRIALS[: len(short)] == short
    assert {trial.method.steps for trial in TRIALS[len(short) :]} == {PUBLISHED}
    assert len({trial.label for trial in TRIALS}) == len(TRIALS)


def test_images_of_whole_batches_judge_and_the_others_are_fitted():
    batches = [torch.full((4, 3, 2, 2), float(n)) for n in range(6)]
    both = Streams(batches, batches)
    assert [int(one[0, 0, 0, 0]) for one in both.part(0, 16).plain] == [0, 1, 2, 3]
    assert [int(one[0, 0, 0, 0]) for one in both.part(16, 24).plain] == [4, 5]


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (4, 7, 3)])
def test_a_bias_takes_off_the_mean_difference_of_each_channel(shape):
    generator = torch.Generator().manual_seed(0)
    plain = [torch.randn(shape, generator=generator) for _ in range(2)]
    bias = torch.tensor([0.5, -1.0, 2.0])
    added = bias[:, None, None] if len(shape) == 4 else bias
    streams = Streams(plain, [one + added for one in plain])
    torch.testing.assert_close(streams.mean_difference(), -bias.double())
    positions = sum(one.numel() for one in plain) / 3
    power = sum(float(one.double().square().sum()) for one in plain)
    assert streams.error() == pytest.approx(float(bias.square().sum()) * positions / power)
    assert streams.error(streams.mean_difference()) == pytest.approx(0, abs=1e-12)


def test_time_of_the_published_steps_is_extrapolated_and_said_so():
    short = next(trial for trial in TRIALS if trial.method.steps == 500)
    long = next(trial for trial in TRIALS if trial.method.is_long)
    quick = next(trial for trial in TRIALS if not trial.method.steps)
    still = {**FOUND, "seconds_a_step": None, "accounts": []}
    results = [Result(short, FOUND), Result(long, FOUND), Result(quick, still)]
    assert results[0].extrapolated == 30.0 + 19_500 * 0.05
    assert results[1].extrapolated == 30.0
    assert results[2].extrapolated is None
    table = as_markdown(results, [])
    assert "| 500 | 0.1500 | 0.1400 | 0.1200 | 0.2000 -> 0.1500 | learned | 0.4 |" in table
    assert "| 1005 (extrapolated) |" in table
    assert "| 30 |" in table
    assert [one.entry["is_extrapolated"] for one in results] == [True, False, False]
    json.dumps([one.entry for one in results])

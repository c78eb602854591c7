"""What may be learned of a block besides gates: variables, grids, biases, and by which rule."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from qcompile.methods.axes import Optimizer, Select
from qcompile.passes import reconstruct as engine
from qcompile.passes.sweep import sweep
from qcompile.policy.number_format import IntFormat, PowerFormat, SumFormat, named
from qcompile.policy.slot_rules import initial
from tests.passes.test_reconstruct import CPU, W2, quick, run, setting

SHORT = {"steps": 20}


def tuned(tuning, *, spec=W2, refits=(), seed=0):
    """The outcome, with the weights of the block in ``spec``."""
    module, unit, sites, data = setting(seed=seed)
    changed = {}
    for name, site in sites.items():
        weight, act = site.tensors
        weight = weight.model_copy(update={"spec": spec})
        changed[name] = site.model_copy(
            update={
                "tensors": (weight, act),
                "refits": tuple(path for path in refits if path.startswith(name)),
            }
        )
    [outcome] = sweep(module, [unit], changed, data, tuning=tuning, seed=1, device=CPU)
    return outcome


def account(outcome):
    [(_, found)] = outcome.accounts
    return found


@pytest.mark.parametrize(
    ("variable", "schedule"),
    [
        ("additive", "linear"),
        ("division", "linear"),
        ("weight", "linear"),
        ("categorical", "constant"),
        ("annealed", "constant"),
    ],
)
def test_every_variable_beats_nearest_rounding(variable, schedule):
    found = account(run(quick("brecq", variable=variable, schedule=schedule, steps=60)))
    assert (found.kept, found.note) == ("learned", "")
    assert found.learned < 0.8 * found.nearest
    assert found.soft_share <= 0.01


def test_no_two_variables_end_on_the_same_codes():
    names = ("gate", "additive", "division", "weight", "categorical", "annealed")
    ends = [run(quick("brecq", variable=name, steps=40), batches=4).tensors for name in names]
    codes = [end["first.weight:codes"].tolist() for end in ends]
    assert len({tuple(one) for one in codes}) == len(names)


def test_a_variable_that_is_stopped_between_codes_is_refused(monkeypatch):
    monkeypatch.setattr("qcompile.quant.variables.annealed.ENDS", (2.0, 1.0))
    found = account(run(quick("brecq", variable="annealed", **SHORT)))
    assert found.kept != "learned"
    assert found.soft_share > engine.MOST_UNDECIDED
    assert found.note.endswith("of a layer lies between codes when learning ends")


def test_powerquant_searches_an_exponent_that_is_better_than_one():
    found, uniform = (
        tuned(quick("powerquant"), spec=initial("weight", number)).sites
        for number in (PowerFormat(3), PowerFormat(3, 1.0))
    )
    assert sum(one.weight_error for one in found) < sum(one.weight_error for one in uniform)


def test_signround_best_is_signround_with_more_steps():
    assert replace(quick("signround_best"), preset="signround", steps=200) == quick(
        "signround", steps=200
    )


def test_gptaq_corrects_what_the_prefix_has_done():
    names = ("gptaq", "optq", "rtn")
    gptaq, optq, nearest = (run(quick(name), batches=4).output_error for name in names)
    assert gptaq < optq < nearest


@pytest.mark.parametrize(
    ("word", "learn"),
    [
        ("power3", ("rounding", "scale", "exponent")),
        ("codebook2", ("rounding", "scale", "levels")),
        ("nf4", ("rounding", "scale")),
        ("int2 + int2", ("rounding", "scale")),
    ],
)
def test_levels_are_learned_with_every_format(word, learn):
    spec = initial("weight", number(word))
    found = account(tuned(quick("nupes", learn=learn, steps=100), spec=spec))
    assert found.kept == "learned", found


def number(word):
    terms = tuple(map(named, word.split(" + ")))
    return terms[0] if len(terms) == 1 else SumFormat(terms)


@pytest.mark.parametrize("variable", ["gate", "categorical", "annealed"])
def test_other_variables_serve_a_codebook_too(variable):
    spec = initial("weight", named("codebook2"))
    found = account(tuned(quick("brecq", variable=variable, steps=60), spec=spec))
    assert found.kept == "learned"
    assert found.learned < 0.8 * found.nearest


@pytest.mark.parametrize(
    ("learned", "spec", "moved"),
    [
        ("scale", W2, "scale"),
        (
            "zero_point",
            replace(W2, format=IntFormat(3, signed=False), symmetric=False),
            "zero_point",
        ),
        ("exponent", initial("weight", named("power3")), "exponent"),
        ("levels", initial("weight", named("codebook2")), "levels"),
    ],
)
def test_a_parameter_of_the_grid_moves_where_it_is_learned(learned, spec, moved, monkeypatch):
    monkeypatch.setattr(engine, "best", lambda errors: "learned")
    fixed = quick("brecq", variable="weight", learn=("rounding",), steps=5)
    moving = replace(fixed, learn=("rounding", learned), grid_lr=5e-2)
    before, after = (tuned(one, spec=spec).tensors for one in (fixed, moving))
    name = f"first.weight:{moved}"
    assert not torch.equal(before[name], after[name])


def test_scales_alone_leave_the_codes_as_they_were():
    tuning = quick("brecq", learn=("scale",), grid_lr=1e-2, steps=40)
    outcome, nearest = run(tuning), run(quick("rtn"))
    assert account(outcome).kept == "learned"
    for name in ("first.weight", "second.weight"):
        assert torch.equal(outcome.tensors[f"{name}:codes"], nearest.tensors[f"{name}:codes"])
        assert not torch.equal(outcome.tensors[f"{name}:scale"], nearest.tensors[f"{name}:scale"])


def test_genie_with_scales_that_stand_still_is_qdrop():
    genie = run(quick("genie", learn=("rounding", "act_scale"), **SHORT)).tensors
    qdrop = run(quick("qdrop", **SHORT)).tensors
    assert all(torch.equal(genie[name], qdrop[name]) for name in qdrop)
    still = run(quick("genie", grid_lr=1e-12, **SHORT)).tensors
    assert torch.equal(still["first.weight:codes"], qdrop["first.weight:codes"])
    torch.testing.assert_close(still["first.weight:scale"], qdrop["first.weight:scale"])
    moving = run(quick("genie", **SHORT)).tensors
    assert not torch.equal(moving["first.weight:scale"], qdrop["first.weight:scale"])


def test_a_gate_without_a_frozen_base_takes_the_scale_of_the_layer_solver():
    solvers = ("optq", "cd", "gradient")
    tuning = quick("brecq", solvers=solvers, learn=("rounding", "scale"), **SHORT)
    before = run(replace(tuning, solvers=solvers[:2])).tensors
    assert torch.equal(run(tuning).tensors["first.weight:scale"], before["first.weight:scale"])


def test_a_learned_bias_lowers_the_error_and_is_what_is_shipped():
    refits = ("first.bias", "second.bias")
    fixed = quick("brecq", variable="annealed")
    without = account(tuned(fixed))
    learned = tuned(replace(fixed, learn=(*fixed.learn, "bias"), bias_lr=1e-2), refits=refits)
    assert account(learned).kept == "learned"
    assert account(learned).learned < without.learned
    given = dict(setting()[0].named_parameters())
    for path in refits:
        assert not torch.equal(learned.tensors[path], given[path])


@pytest.mark.parametrize(
    "optimizer",
    [
        *(Optimizer(name) for name in ("sgd", "sign_sgd", "adamw", "nadam", "adamax", "lion")),
        *(Optimizer(name) for name in ("adagrad", "rmsprop")),
        Optimizer("adam", beta1=0.5),
    ],
    ids=str,
)
def test_every_rule_lowers_the_error_in_a_way_of_its_own(optimizer):
    rule = replace(optimizer, lr=0.02)
    tuning = quick("brecq", variable="additive", schedule="linear", steps=40, optimizer=rule)
    found = account(run(tuning, batches=8))
    assert found.learned < found.nearest
    assert found.learned != by_adam(replace(tuning, optimizer=Optimizer(lr=0.02)))


@cache
def by_adam(tuning):
    return account(run(tuning, batches=8)).learned


def test_every_schedule_learns_something_else():
    ends = {
        tuple(
            run(quick("brecq", schedule=one, steps=40), batches=4)
            .tensors["first.weight:codes"]
            .tolist()
        )
        for one in ("constant", "linear", "cosine")
    }
    assert len(ends) == 3


def test_nothing_to_learn_keeps_the_start():
    found = account(run(quick("brecq", learn=("levels",), drop="none")))
    assert found.kept != "learned"
    assert found.note == "nothing of it is learned"


@pytest.mark.parametrize("word", ["nf4", "power3", "codebook2"])
def test_divergence_on_levels_keeps_the_start_and_says_so(word):
    rule = Optimizer("adam", lr=10.0)
    tuning = quick("flexround", learn=("rounding", "scale"), steps=40, optimizer=rule)
    found = account(tuned(tuning, spec=initial("weight", named(word))))
    assert found.kept != "learned"
    assert "not finite" in found.note


def test_a_share_of_next_to_nothing_moves_one_weight():
    found = account(run(quick("brecq", select=Select("random", 1e-6), steps=20)))
    assert 0 <= found.soft_share <= 1


@pytest.mark.parametrize("place", ["beta1", "beta2"])
def test_a_moment_that_never_changes_is_refused(place):
    with pytest.raises(ValueError, match=place):
        Optimizer("adam", **{place: 1.0})

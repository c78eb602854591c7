"""Ranges of operands in a sweep: which are chosen for the layer's output, and which stay."""

from dataclasses import replace
from statistics import geometric_mean

import pytest
import torch

from qcompile.methods.axes import LossTerm
from qcompile.methods.presets import preset
from qcompile.passes.operand_range import drawn_rows
from qcompile.policy.scheme import MinMax
from tests.passes.deep import outcomes

MOVED = preset("hybrid")
OBSERVED = replace(MOVED, learn=("rounding", "scale", "bias"))


def swept(tuning, **options):
    """Tensors by name, and errors of the units' outputs."""
    made = outcomes(tuning, **options)
    tensors = {name: value for one in made for name, value in one.tensors.items()}
    return tensors, [one.output_error for one in made]


def scales(tensors):
    return {name: float(value) for name, value in tensors.items() if name.endswith("act.scale")}


def test_ranges_are_moved_where_they_are_learned_and_the_output_gains():
    """One layer at a time, with codes of four bits; what arrives at it is the same."""
    ratios = []
    for seed in range(12):
        for place, layer in ((0, "first"), (1, "fourth")):
            options = {"only": (layer,), "seed": seed, "bits": 4}
            plain, plain_errors = swept(OBSERVED, **options)
            moved, errors = swept(MOVED, **options)
            if scales(moved) != scales(plain):
                ratios.append(errors[place] / plain_errors[place])
    assert len(ratios) > 12
    assert geometric_mean(ratios) < 0.99


def test_without_a_fit_to_the_output_the_weight_that_is_there_judges():
    """Rounding to nearest, with scales that are fitted, takes the weight as it is."""
    nearest = preset("rtn_gram")
    moved, _ = swept(replace(nearest, learn=(*nearest.learn, "act_scale")), only=("first",))
    fitted, _ = swept(MOVED, only=("first",))
    assert scales(moved) != scales(fitted)


def test_a_finer_grid_keeps_its_range():
    moved, _ = swept(MOVED, act_bits=8)
    observed, _ = swept(OBSERVED, act_bits=8)
    assert scales(moved) == scales(observed)


def test_a_range_that_is_asked_for_by_name_stays():
    plain, _ = swept(OBSERVED, observer=MinMax())
    moved, _ = swept(MOVED, observer=MinMax())
    assert scales(moved) == pytest.approx(scales(plain), rel=0.2)  # other values arrive
    assert scales(moved)["first:act.scale"] == scales(plain)["first:act.scale"]


def test_rows_that_count_change_ranges_and_codes():
    alike, _ = swept(MOVED)
    weighted, _ = swept(replace(MOVED, loss=(LossTerm("fisher"),)))
    assert scales(alike) != scales(weighted)
    assert any(not torch.equal(alike[name], weighted[name]) for name in alike if "codes" in name)


def test_rows_are_drawn_without_a_period_and_the_widest_for_sure():
    rows = torch.zeros(1, 1600, 3)
    rows[0, 777] = 100.0
    place, weight = drawn_rows(rows, 32, 0)
    assert 777 in place
    assert len(place) == len(weight) == 32
    assert float(weight.sum()) == pytest.approx(1600)
    tokens = {int(number) % 50 for number in place}
    assert len(tokens) > 20  # a stride of 50 would draw one token of each image


def test_few_rows_are_all_taken():
    place, weight = drawn_rows(torch.zeros(1, 5, 3), 32, 0)
    assert place.tolist() == [0, 1, 2, 3, 4]
    assert weight.tolist() == [1.0] * 5


def test_many_small_batches_are_not_all_asked_for_their_first_row():
    """One row of each, as of 512 texts one by one: a class token or a first word, and no other."""
    drawn = [drawn_rows(torch.zeros(1, 50, 3), 1, turn)[0] for turn in range(100)]
    assert len(set(torch.cat(drawn).tolist())) > 40

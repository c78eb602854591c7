"""Ranges of operands in a sweep: which are chosen for the layer's output, and which stay."""

from dataclasses import replace
from statistics import geometric_mean

import pytest
import torch
from torch import fx, nn

from qcompile.capture.unit import Unit
from qcompile.methods.axes import LossTerm
from qcompile.methods.presets import preset
from qcompile.passes.layer_samples import LayerSamples
from qcompile.passes.operand_range import KEPT, drawn_rows
from qcompile.passes.residual import Residual
from qcompile.passes.sweep import sweep
from qcompile.policy.number_format import IntFormat
from qcompile.policy.scheme import MinMax
from tests.passes.deep import LAYERS, changed, outcomes, site

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


@pytest.mark.parametrize("name", ["rtn_gram", "optq"])
@pytest.mark.parametrize(("target", "is_fitted"), [("symmetric", False), ("asymmetric", True)])
def test_the_weight_that_will_be_rounded_judges(name, target, is_fitted):
    """Whatever rounds it: ``W`` where the layer's own output is wanted, else ``W*``."""
    tuning = preset(name)
    learn = (*tuning.learn, "act_scale")
    moved, _ = swept(replace(tuning, learn=learn, target=target), only=("first",))
    by_fit, _ = swept(replace(MOVED, target="asymmetric"), only=("first",))
    assert (scales(moved) == scales(by_fit)) is is_fitted


@pytest.mark.parametrize(
    ("batches", "why"),
    [(1, "there is one batch"), (2, "16 rows would judge, fewer than 32"), (16, None)],
)
def test_too_few_rows_judge_nothing_and_the_report_says_so(batches, why):
    """One batch of sixteen rows judges, or two; a single one would judge itself."""
    moved, observed = (swept(tuning, batches=batches)[0] for tuning in (MOVED, OBSERVED))
    assert (scales(moved) == scales(observed)) is (why is not None)
    notes = [site.note for unit in outcomes(MOVED, batches=batches) for site in unit.sites]
    assert len(notes) == len(LAYERS)
    assert all((f"{KEPT}: {why}" in note) is (why is not None) for note in notes)


def test_a_faint_gain_of_half_precision_counts():
    faint = torch.full((12,), 1e-4, dtype=torch.float16)
    samples = LayerSamples(None, None, {}, (), None, Residual("x", faint))
    assert torch.allclose(samples.importance, torch.tensor(1e-8).double(), rtol=1e-2)


class Convolutional(nn.Module):
    """``[n, 6, 7, 7]``: a convolution, of groups or not, that is added with a gain."""

    def __init__(self, groups, gain):
        super().__init__()
        self.before = nn.Conv2d(6, 6, 1)
        self.conv = nn.Conv2d(6, 6, 3, padding=1, groups=groups)
        self.gain = nn.Parameter(gain)
        with torch.no_grad():  # the first channel is by far the widest
            self.before.weight.copy_(torch.diag(2.0 ** -torch.arange(6))[:, :, None, None])

    def forward(self, x):
        skip = self.before(x)
        return skip + self.conv(skip) * self.gain


def convolved(groups, gain, tuning):
    """Scale of the input of the second convolution, and the relative error of the sum."""
    torch.manual_seed(0)
    module = fx.symbolic_trace(Convolutional(groups, gain).eval())
    names = tuple(node.name for node in module.graph.nodes if node.op.startswith("call_"))
    eight, four = ({"format": IntFormat(bits=bits, signed=True)} for bits in (8, 4))
    fine = {"format": IntFormat(bits=8, signed=False)}
    sites = {
        "before": changed(site(module, "before", "x"), eight, fine),
        "conv": changed(site(module, "conv", "before"), four, {}),
    }
    generator = torch.Generator().manual_seed(1)
    data = [{"x": torch.randn(4, 6, 7, 7, generator=generator)} for _ in range(16)]
    unit = Unit("all", names, ("x",), (names[-1],), False)
    cpu = torch.device("cpu")
    (made,) = sweep(module, [unit], sites, data, tuning=tuning, seed=1, device=cpu)
    return float(made.tensors["conv:act.scale"]), made.output_error


def all_but(place):
    """Gains that let little of all other outputs through."""
    gain = torch.full((6, 1, 1), 2e-3)
    gain[place] = 1.0
    return gain


@pytest.mark.parametrize(("groups", "place"), [(1, 5), (2, 3), (2, 5), (6, 0), (6, 4)])
def test_ranges_of_convolutions_are_chosen(groups, place):
    observed, error = convolved(groups, all_but(place), OBSERVED)
    moved, less = convolved(groups, all_but(place), MOVED)
    assert moved != observed
    assert less < error


def test_outputs_count_by_their_gain():
    """Of a depthwise layer, whose outputs see one channel each: a wide one, or a narrow one."""
    wide, narrow = (convolved(6, all_but(place), MOVED)[0] for place in (0, 5))
    assert narrow < 0.7 * wide


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

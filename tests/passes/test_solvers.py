from dataclasses import replace

import pytest
import torch

from qcompile.methods.axes import LossTerm
from qcompile.methods.tuning import Tuning
from qcompile.passes.solvers import LayerProblem, solve, unit_seed
from qcompile.policy.scheme import IntFormat, PerGroup, PerTensor, QuantSlot
from qcompile.quant.geometry import Convolution, Dense
from qcompile.quant.range_search import weight_range

SPEC = QuantSlot(
    format=IntFormat(bits=3, signed=True), symmetric=True, granularity=PerGroup(size=4)
)


def problem(*solvers, **changes) -> LayerProblem:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 24, generator=generator)
    inputs = torch.randn(5, 32, 24, generator=generator) @ torch.randn(24, 24, generator=generator)
    made = LayerProblem(
        weight=weight,
        spec=SPEC,
        output_axis=0,
        grid=weight_range(weight, SPEC, 0),
        samples=lambda batch: (inputs[batch], inputs[batch] @ weight.T),
        batches=5,
        tuning=Tuning(preset="test", solvers=solvers),
        geometry=Dense(),
    )
    return replace(made, **changes)


def output_error(of, found) -> float:
    weight = of.grouping.restore(found.grid.dequantize(found.codes))
    errors = [x @ weight.T - y for x, y in map(of.samples, range(of.batches))]
    return float(torch.stack(errors).square().mean())


def test_nearest_has_the_least_weight_error_of_all_codes():
    found = solve(problem("rtn"))
    grid = found.grid
    values = grid.dequantize(torch.arange(grid.qmin, grid.qmax + 1)[:, None, None, None])
    view = problem("rtn").grouping.view(problem("rtn").weight)
    least = (values - view).abs().amin(dim=0)
    assert torch.allclose((grid.dequantize(found.codes) - view).abs(), least)


def test_each_solver_goes_on_from_the_last():
    chains = [("rtn",), ("optq",), ("optq", "cd")]
    errors = [output_error(problem(*chain), solve(problem(*chain))) for chain in chains]
    assert errors[0] > errors[1] > errors[2]
    first = output_error(problem("rtn", "cd"), solve(problem("rtn", "cd")))
    assert first < errors[0]


def test_a_single_batch_that_judges_too_is_said():
    several = Tuning(preset="test", solvers=("optq",), damping=(0.01, 0.1))
    assert solve(problem(tuning=several)).note == ""
    assert solve(problem(tuning=several, batches=1)).note == "one batch: it was fitted and judged"
    assert solve(problem("optq", batches=1)).note == ""


def test_damping_that_had_to_be_raised_is_said():
    """Eight samples of 24 inputs: rounding makes their Gram matrix indefinite."""
    few = Tuning(preset="test", solvers=("optq",), damping=(1e-9,))
    given = problem()
    found = solve(
        problem(
            tuning=few,
            batches=1,
            samples=lambda batch: tuple(part[:8] for part in given.samples(batch)),
        )
    )
    assert found.damping > 1e-9
    assert found.note == (
        f"the inputs are linearly dependent: damping was raised to {found.damping:g}"
    )


def test_what_is_no_matrix_product_is_rounded_to_nearest_and_said():
    found = solve(problem("optq", geometry=None))
    assert torch.equal(found.codes, solve(problem("rtn")).codes)
    assert "no matrix product" in found.fallback


def test_inputs_that_are_not_numbers_leave_nearest_rounding_and_are_said():
    of = problem("optq", "cd")
    spoilt = replace(of, samples=lambda batch: (of.samples(batch)[0] * torch.nan, of.samples(0)[1]))
    found = solve(spoilt)
    assert torch.equal(found.codes, solve(problem("rtn")).codes)
    assert "degenerate" in found.fallback


def test_held_out_batches_are_looked_at_only_where_there_is_a_choice():
    for damping, expected in (((0.01,), 5), ((0.01, 1.0), 5)):
        of, seen = problem("optq", tuning=Tuning("t", ("optq",), damping=damping)), []

        def watched(batch, of=of, seen=seen):
            seen.append(batch)
            return of.samples(batch)

        solve(replace(of, samples=watched))
        assert len(seen) == len(set(seen)) == expected  # each batch once: no samples are kept


def test_a_tuning_without_solvers_is_refused():
    with pytest.raises(ValueError, match="no solver"):
        solve(problem())


def test_unit_seeds_depend_on_seed_and_name_alone():
    seeds = {unit_seed(seed, name) for seed in (0, 1, 10) for name in ("a", "b", "0a")}
    assert len(seeds) == 9
    assert unit_seed(0, "layer1.0") == unit_seed(0, "layer1.0")
    assert all(0 <= seed < 1 << 63 for seed in seeds)


def test_rows_that_count_more_are_fitted_better():
    heavy = [torch.full((1, 32), 0.05) for _ in range(5)]
    for weight in heavy:
        weight[:, :8] = 3.0
    plain = Tuning(preset="test", solvers=("optq", "cd"), loss=(LossTerm("fisher"),))
    alike, weighted = problem(tuning=plain), problem(tuning=plain, row_weights=heavy)
    few = {of: error_of_rows(of, solve(of), slice(0, 8)) for of in (alike, weighted)}
    rest = {of: error_of_rows(of, solve(of), slice(8, 32)) for of in (alike, weighted)}
    assert few[weighted] < few[alike]
    assert rest[weighted] > rest[alike]
    assert (
        solve(alike).note
        == "rows count alike: the network's output has no finite derivative by them"
    )
    assert solve(weighted).note == ""


def error_of_rows(of, found, rows):
    weight = of.grouping.restore(found.grid.dequantize(found.codes))
    errors = [(x @ weight.T - y)[rows] for x, y in map(of.samples, range(of.batches))]
    return float(torch.stack(errors).square().mean())


@pytest.mark.parametrize(("kernel", "expected"), [(3, 1), (1, 0)])
def test_what_patches_leave_behind_is_given_back_before_the_solvers_begin(
    monkeypatch, kernel, expected
):
    given_back = []
    monkeypatch.setattr("qcompile.passes.solvers.give_back_freed", lambda: given_back.append(1))
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 4, kernel, kernel, generator=generator)
    images = torch.randn(3, 8, 4, 6, 6, generator=generator)
    spec = QuantSlot(format=IntFormat(bits=3, signed=True), symmetric=True, granularity=PerTensor())
    side = kernel // 2
    geometry = Convolution((kernel,) * 2, (1, 1), ((side, side),) * 2, (1, 1), 1)
    solve(
        LayerProblem(
            weight=weight,
            spec=spec,
            output_axis=0,
            grid=weight_range(weight, spec, 0),
            samples=lambda at: (images[at], torch.conv2d(images[at], weight, padding=side)),
            batches=3,
            tuning=Tuning(preset="test", solvers=("optq",), damping=(0.01, 0.1)),
            geometry=geometry,
        )
    )
    assert len(given_back) == expected

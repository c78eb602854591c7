from typing import get_args

import pytest
import torch

from qcompile.methods.tuning import Solver, Tuning
from qcompile.passes.solvers import SOLVERS, LayerProblem, LayerSolution, solve, unit_seed
from qcompile.policy.scheme import IntFormat, PerGroup, QuantSlot
from qcompile.quant.range_search import weight_range

SPEC = QuantSlot(
    format=IntFormat(bits=3, signed=True), symmetric=True, granularity=PerGroup(size=4)
)


def problem(*solvers) -> LayerProblem:
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    return LayerProblem(
        weight=weight,
        spec=SPEC,
        output_axis=0,
        grid=weight_range(weight, SPEC, 0),
        inputs=lambda: iter(()),
        tuning=Tuning(preset="test", solvers=solvers),
        generator=torch.Generator().manual_seed(0),
    )


def test_every_solver_of_the_tuning_has_one_entry():
    of_a_block = {"gradient"}
    assert {name for name, _ in SOLVERS} == set(get_args(Solver)) - of_a_block


def test_nearest_has_the_least_weight_error_of_all_codes():
    found = solve(problem("rtn"))
    grid = found.grid
    values = grid.dequantize(torch.arange(grid.qmin, grid.qmax + 1)[:, None, None, None])
    view = problem("rtn").grouping.view(problem("rtn").weight)
    least = (values - view).abs().amin(dim=0)
    assert torch.allclose((grid.dequantize(found.codes) - view).abs(), least)


def test_solvers_start_from_the_last():
    twice, once = solve(problem("rtn", "rtn")), solve(problem("rtn"))
    assert isinstance(twice, LayerSolution)
    assert torch.equal(twice.codes, once.codes)


def test_a_tuning_without_solvers_is_refused():
    with pytest.raises(ValueError, match="no solver"):
        solve(problem())


def test_unit_seeds_depend_on_seed_and_name_alone():
    seeds = {unit_seed(seed, name) for seed in (0, 1, 10) for name in ("a", "b", "0a")}
    assert len(seeds) == 9
    assert unit_seed(0, "layer1.0") == unit_seed(0, "layer1.0")
    assert all(0 <= seed < 1 << 63 for seed in seeds)

"""What ``make bench-plan`` counts on, at a size that takes no time."""

from math import isclose, log

import pytest

from tests.bench.generated_graph import SHAPES
from tests.bench.plan import N_LOG_N, SIZES, exponent
from tests.bench.plan_cell import analysed


@pytest.mark.parametrize("shape", SHAPES)
def test_generated_graphs_are_planned_whole(shape):
    found = analysed(shape, 200)
    # 200 nodes in 40 blocks of five, with two quantized layers and a sum each
    assert found["sites"] == 40 * 3 + 2
    assert found["nodes"] == 40 * 5 + 4


def test_exponent_is_that_of_the_law():
    rows = [{"nodes": n, "analysis_s": 3e-6 * n**1.5} for n in SIZES]
    assert isclose(exponent(rows), 1.5)


def test_limit_is_that_of_n_log_n():
    ends = [{"nodes": n, "analysis_s": n * log(n)} for n in (SIZES[0], SIZES[-1])]
    assert isclose(exponent(ends), N_LOG_N)

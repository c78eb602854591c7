"""The cases of ``make bench-grids`` are recipes that plan, and its means are means."""

import pytest

from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from tests.bench.grids import ACTIVATIONS, PRESETS, WEIGHTS, Case, as_markdown, cases, means


@pytest.mark.parametrize("case", [one for one in cases(1) if one.preset == "hybrid"], ids=str)
def test_every_case_is_a_recipe_without_a_complaint(case):
    checked = check_source(Source("r.qrecipe", case.text))
    assert checked.recipe is not None
    assert list(checked.diagnostics) == []


def test_every_format_meets_every_preset_and_seed():
    assert len(set(cases(3))) == 3 * len(PRESETS) * (len(WEIGHTS) + len(ACTIVATIONS))


def test_means_are_over_seeds():
    found = {
        Case("weight", "nf4", "rtn", seed): {"top1": top1, "kl": kl}
        for seed, top1, kl in [(1, 0.5, 0.1), (2, 0.7, 0.3)]
    }
    (entry,) = means(found)
    assert (entry["top1"], entry["kl"]) == (pytest.approx(0.6), pytest.approx(0.2))
    assert entry["stdev_kl"] == pytest.approx(0.1414, abs=1e-4)
    assert as_markdown([entry]).splitlines()[-1] == (
        "| weight | `nf4` | 60.00 | 0.2000 | 0.1414 | - | - | - | - | - | - |"
    )

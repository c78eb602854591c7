import math

import pytest
import torch

from qcompile.diagnostics.failure import CompileError
from qcompile.passes.sweep_guard import check_finite


def check(values, *, masks_allowed=False, sizes=(2, 3)):
    check_finite(values, sizes, unit="u", stream="quantized", masks_allowed=masks_allowed)


def bad_sample(values, **options):
    with pytest.raises(CompileError) as caught:
        check(values, **options)
    return caught.value.diagnostics[0].subject


def with_bad(number, *index, shape=(3, 4, 5)):
    value = torch.zeros(shape)
    value[index] = number
    return [torch.zeros(2, *shape[1:]), value]


def test_finite_values_and_integers_pass():
    check([torch.zeros(2, 4), torch.full((3, 4), 1e38)])
    check([torch.ones(2, dtype=torch.int64), 7])


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_the_sample_is_counted_over_all_batches(number):
    assert bad_sample(with_bad(number, 1, 2, 3)) == "calibration sample 3"
    assert bad_sample(with_bad(number, 2, shape=(3,))) == "calibration sample 4"


def test_a_value_that_is_not_batch_first_is_laid_at_the_first_sample_of_its_batch():
    values = [torch.zeros(()), torch.tensor(math.nan)]
    assert bad_sample(values) == "calibration sample 2"


def test_tensors_inside_a_tuple_are_looked_at():
    values = [(1, torch.zeros(2)), (1, torch.tensor([0.0, math.nan, 0.0]))]
    assert bad_sample(values) == "calibration sample 3"


def test_a_mask_may_be_infinite_but_not_nan():
    check(with_bad(-math.inf, 0, 0, 0), masks_allowed=True)
    assert bad_sample(with_bad(math.nan, 0, 0, 0), masks_allowed=True) == "calibration sample 2"

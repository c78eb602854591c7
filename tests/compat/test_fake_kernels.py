import pytest
import torch
from torch.nn import functional

from qcompile.compat.fake_kernels import RECORDED, STAND_INS, grouped_mm

OFFSETS = torch.tensor([2, 5, 8], dtype=torch.int32)


def rows(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("left", "right", "offsets"),
    [
        ((8, 16), (3, 16, 24), OFFSETS),
        ((3, 8, 16), (3, 16, 24), None),
        ((3, 8, 16), (16, 8), OFFSETS),
        ((16, 8), (8, 24), OFFSETS),
    ],
)
def test_stand_in_has_shape_and_type_of_the_real_product(left, right, offsets, dtype):
    a, b = rows(*left).to(dtype), rows(*right).transpose(-2, -1).contiguous().transpose(-2, -1)
    real = functional.grouped_mm(a, b.to(dtype), offs=offsets)
    made = grouped_mm(a, b.to(dtype), offs=offsets)
    assert (made.shape, made.dtype) == (real.shape, real.dtype)


def test_functions_that_are_replaced_are_reachable():
    assert all(callable(function) for function in (*STAND_INS, *RECORDED))
    assert set(STAND_INS) <= set(RECORDED)

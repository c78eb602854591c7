"""Products on tensor cores of CUDA devices: private names of ``torch`` and ``aten``.

What they want of their operands, from their sources and from issues (nothing of it was run on a
device): ``_int_mm`` more than 16 rows, and all sizes in multiples of 8; ``_scaled_mm`` multiples of
16; the 4-bit product inputs in multiples of 16 times ``innerKTiles``, outputs in multiples of 8. On
a CPU the first two take any size, and are given the same.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from qcompile.compat.weight_only_operations import multiply_int4

INT8, FP8, INT4 = (7, 5), (8, 9), (8, 0)
"""Compute capability from which on there are such products, of bfloat16 for ``INT4``."""
UNIT = 8
FEWEST_ROWS = 24
INNER_TILES = (8, 4, 2)
TILE = 16


def found_devices() -> str:
    """For people: the device, and what it should be able to do and does not."""
    if not torch.cuda.is_available():
        return "this torch sees no CUDA device"
    name, (major, minor) = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    found = f"this torch sees {name}, of compute capability {major}.{minor}"
    failed = [f"{words} fail there: {why}" for words, why in _failures()]
    return "; ".join([found, *failed])


def has_int8() -> bool:
    """Whether the device that torch would use has them, and this torch runs them there."""
    return _is_capable(INT8) and not _failure(_try_int8)


def has_fp8() -> bool:
    return _is_capable(FP8) and not _failure(_try_fp8)


def has_int4() -> bool:
    return _is_capable(INT4) and not _failure(_try_int4)


def _failures() -> Iterator[tuple[str, str]]:
    for words, wanted, trial in (
        ("8-bit integer products", INT8, _try_int8),
        ("8-bit float products", FP8, _try_fp8),
        ("4-bit products", INT4, _try_int4),
    ):
        if _is_capable(wanted) and (why := _failure(trial)):
            yield words, why


def _is_capable(wanted: tuple[int, int]) -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= wanted


@cache
def _failure(trial: Callable[[], bool]) -> str:
    """What a product says for itself where it does not run; empty where it does."""
    try:
        return "" if trial() else "its result is wrong"
    except RuntimeError as error:
        return str(error).partition("\n")[0] or "no reason given"


def _try_int8() -> bool:
    ones = torch.ones(1, 1, dtype=torch.int8, device="cuda")
    return multiply_int8(ones, packed_int8(ones)).item() == 1


def _try_fp8() -> bool:
    ones = torch.ones(1, 1, device="cuda").to(torch.float8_e4m3fn)
    return multiply_fp8(ones, packed_fp8(ones)).item() == 1


def _try_int4() -> bool:
    codes = torch.full((UNIT, 32), 9, dtype=torch.uint8, device="cuda")
    grid = torch.ones(1, UNIT, 2, dtype=torch.bfloat16, device="cuda")
    x = torch.ones(1, 32, dtype=torch.bfloat16, device="cuda")
    made = multiply_int4(x, pack_int4(codes), 32, grid)
    return bool((made == 64).all())  # 32 times (9 - 8) * 1 + 1


def packed_int8(codes: Tensor) -> Tensor:
    """int8 ``[out, in]`` with both sizes brought to what the product takes."""
    outputs, inputs = codes.shape
    return functional.pad(codes, (0, -inputs % UNIT, 0, -outputs % UNIT)).contiguous()


def multiply_int8(rows: Tensor, packed: Tensor) -> Tensor:
    """int32 sums ``[rows, out]``, ``out`` as it is packed; ``rows`` is int8 ``[rows, in]``."""
    count, inputs = rows.shape
    more = max(FEWEST_ROWS - count, -count % UNIT)
    padded = functional.pad(rows, (0, packed.shape[1] - inputs, 0, more))
    return cast("Tensor", torch.ops.aten._int_mm(padded, packed.t()))[:count]


def packed_fp8(codes: Tensor) -> Tensor:
    """e4m3 ``[out, in]`` with both sizes brought to what the product takes."""
    outputs, inputs = codes.shape
    return _padded_fp8(codes, -outputs % TILE, -inputs % TILE)


def multiply_fp8(rows: Tensor, packed: Tensor) -> Tensor:
    """float32 sums ``[rows, out]``, ``out`` as it is packed; ``rows`` is e4m3 ``[rows, in]``."""
    count, inputs = rows.shape
    padded = _padded_fp8(rows, -count % TILE, packed.shape[1] - inputs)
    one = torch.ones((), device=rows.device)
    made = torch.ops.aten._scaled_mm(padded, packed.t(), one, one, out_dtype=torch.float32)
    return cast("Tensor", made)[:count]


def _padded_fp8(rows: Tensor, down: int, right: int) -> Tensor:
    """Zeros have the same byte in both types; ``pad`` takes no e4m3."""
    wide = functional.pad(rows.view(torch.uint8), (0, right, 0, down)).contiguous()
    return wide.view(torch.float8_e4m3fn)


def pack_int4(codes: Tensor) -> Tensor:
    """Codes 0..15 ``[out, in]`` on a CUDA device; sizes as above."""
    tiles = next(tiles for tiles in INNER_TILES if codes.shape[1] % (tiles * TILE) == 0)
    codes = codes.to(torch.uint8)
    two_in_a_byte = (codes[:, ::2] << 4 | codes[:, 1::2]).contiguous()
    return cast("Tensor", torch.ops.aten._convert_weight_to_int4pack(two_in_a_byte, tiles))

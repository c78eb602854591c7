"""Float rows by packed codes, in machine code that is made for the processor at hand."""

from functools import cache

import torch
from torch import Tensor

from qcompile.compat.cpu_features import multiplies_bytes
from qcompile.compat.dispatch import is_watched
from qcompile.compat.llvm import Function, compile_functions, has_llvm
from qcompile.emit.native import all_rows, row_codes, row_product, threads, unpacked
from qcompile.emit.native.assembly import LANES, Signature
from qcompile.emit.native.layout import CHUNK, inputs_of
from qcompile.emit.native.no_gradient import without_gradient
from qcompile.emit.native.row_product import MOST_ROWS

FEATURES = "+avx512f,+avx512bw,+avx512vl,+avx512vnni,+fma"
"""Processors that have the last but one have them all."""
SLICE = 1 << 20
"""Numbers of a weight that are multiplied, or unpacked, while they stay in the cache."""
UNPACKING = 16
"""Products that take as long as to unpack a number."""
SHARED = (all_rows.SIGNATURE, unpacked.SIGNATURE)
"""What several threads may do."""
ROWS = (torch.float32, torch.bfloat16, torch.float16)
"""Types of inputs; the result has the same."""

Weight = tuple[Tensor, Tensor, Tensor]
"""Codes, scales and zero points, as ``native.layout`` has them."""


def missing() -> str:
    """What this machine lacks to make such code; empty where it can."""
    if not multiplies_bytes():
        return "this processor has no AVX-512 VNNI"
    return "" if has_llvm() else "`llvmlite` 0.45 or later is not installed (extra `jit`)"


@cache
def code_for(bits: int) -> dict[str, Function]:
    """Compile it, unless that was done before.

    Raises ``RuntimeError`` for what LLVM refuses, ``ImportError`` or ``OSError`` where it is not
    installed as it should be.
    """
    rows = range(1, MOST_ROWS + 1)
    text = "".join(
        (
            row_codes.DECLARED,
            row_product.DECLARED,
            row_codes.row_codes(),
            *(row_product.row_product(bits, count) for count in rows),
            all_rows.all_rows(),
            unpacked.unpacked(bits),
            *map(threads.share, SHARED),
        )
    )
    wanted: list[Signature] = [row_codes.SIGNATURE, *SHARED, *map(threads.of_shares, SHARED)]
    arity = {one.name: (len(one.addresses), len(one.numbers)) for one in wanted}
    return compile_functions(text, arity, FEATURES)


def packed_linear(x: Tensor, weight: Weight, bias: Tensor, bits: int, few_rows: int) -> Tensor:
    """``x [..., in]`` by a weight of ``bits`` bits.

    At most ``few_rows`` rows are multiplied as codes of 16 bits; for more of them the weight is
    unpacked to bfloat16. Raises ``ValueError`` for what is no plain tensor on a CPU of the size and
    type that this is made for: machine code would read what is not there.
    """
    _check(x, weight, bias, bits)
    given = x if x.dtype == torch.float32 else x.to(torch.float32)
    # each call of torch costs as much as a tenth of a small product: none that changes nothing
    rows = given if x.dim() == 2 else given.reshape(-1, x.shape[-1])
    made = torch.empty(rows.shape[0], bias.shape[0], dtype=torch.float32, device="cpu")
    if rows.shape[0] > few_rows:
        _by_slices(rows.detach().to(torch.bfloat16), weight, bits, made)
        made += bias.detach()
    elif rows.shape[0]:
        _multiply(rows.contiguous(), weight, bias.contiguous(), bits, made)
    if x.dim() != 2:
        made = made.view(*x.shape[:-1], made.shape[-1])
    if x.dtype != torch.float32:
        made = made.to(x.dtype)
    return without_gradient(x, made) if x.requires_grad and torch.is_grad_enabled() else made


def _check(x: Tensor, weight: Weight, bias: Tensor, bits: int) -> None:
    codes, scales, zeros = weight
    inputs, outputs = inputs_of(codes, bits), scales.shape[0] * LANES
    if x.dtype not in ROWS or not x.is_cpu or x.shape[-1:] != (inputs,) or x.is_neg():
        given = f"{tuple(x.shape)} of {x.dtype} on {x.device}"
        raise ValueError(f"a layer takes plain floats [..., {inputs}] on a CPU, not {given}")
    if type(x) not in (Tensor, torch.nn.Parameter) or is_watched():
        raise ValueError("products that are compiled here cannot be traced: load for `simulate`")
    types = codes.dtype, zeros.dtype, scales.dtype, bias.dtype
    if types != _TYPES or bias.shape != (outputs,) or not (codes.is_cpu and bias.is_cpu):
        raise ValueError("the weights of a loaded model cannot be converted or moved")


_TYPES = (torch.uint8, torch.uint8, torch.float32, torch.float32)


def _multiply(rows: Tensor, weight: Weight, bias: Tensor, bits: int, made: Tensor) -> None:
    functions = code_for(bits)
    blocks, groups, _ = weight[1].shape
    count, inputs = rows.shape
    outputs, size = blocks * LANES, inputs // groups
    # two planes of bytes, and of each group its scale and the sum of its codes
    place = torch.empty(2 * count * (inputs + 4 * groups), dtype=torch.uint8, device="cpu")
    high = place.data_ptr()
    low = high + count * inputs
    scales = low + count * inputs
    of_rows = {"high": high, "low": low, "xscales": scales, "xsums": scales + 4 * count * groups}
    parts = size // LANES
    functions[row_codes.SIGNATURE.name](
        *row_codes.SIGNATURE.values(
            x=rows.data_ptr(), **of_rows, groups=count * groups, parts=parts
        )
    )
    args = all_rows.SIGNATURE.values(
        **of_rows,
        **_addresses(weight),
        bias=bias.data_ptr(),
        y=made.data_ptr(),
        first=0,
        last=blocks,
        inputs=inputs,
        groups=groups,
        chunks=size // CHUNK,
        outputs=outputs,
        count=count,
        most=blocks if count <= MOST_ROWS else _blocks_of_slice(inputs),
    )
    threads.run(functions, all_rows.SIGNATURE, args, count * outputs * inputs)


def _by_slices(rows: Tensor, weight: Weight, bits: int, made: Tensor) -> None:
    """A slice of the outputs stays in the cache, and the whole never is in memory."""
    functions = code_for(bits)
    blocks, groups, _ = weight[1].shape
    inputs = rows.shape[-1]
    share = _blocks_of_slice(inputs)
    floats = rows.new_empty(min(share, blocks) * LANES, inputs)
    for first in range(0, blocks, share):
        last = min(first + share, blocks)
        args = unpacked.SIGNATURE.values(
            **_addresses(weight),
            y=floats.data_ptr(),
            first=first,
            last=last,
            inputs=inputs,
            groups=groups,
            chunks=inputs // groups // CHUNK,
            origin=first,
        )
        work = UNPACKING * (last - first) * LANES * inputs
        threads.run(functions, unpacked.SIGNATURE, args, work)
        of_slice = floats[: (last - first) * LANES]
        made[:, first * LANES : last * LANES] = rows @ of_slice.t()


def _addresses(weight: Weight) -> dict[str, int]:
    names = ("weight", "scales", "zeros")
    return {name: part.data_ptr() for name, part in zip(names, weight, strict=True)}


def _blocks_of_slice(inputs: int) -> int:
    return max(1, SLICE // (LANES * inputs))

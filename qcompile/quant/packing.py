"""Codes of 2 to 8 bits as one little-endian bit stream.

Code ``i`` occupies the bits ``[i * bits, (i + 1) * bits)``; bit ``k`` of the stream is bit
``k % 8`` of byte ``k // 8``. Eight codes are ``bits`` whole bytes and fit one 64-bit word, which is
how both directions go.
"""

import torch
from torch import Tensor

from qcompile.policy.size import packed_size

_WORD = 8
"""Codes in a word."""


def pack(codes: Tensor, bits: int) -> Tensor:
    """Unsigned ``codes`` of any integer dtype and shape, row-major, to uint8 ``[bytes]``."""
    flat = codes.reshape(-1)
    count = flat.numel()
    if count and (int(flat.min()) < 0 or int(flat.max()) >> bits):
        raise ValueError(f"a code does not fit {bits} bits")
    if bits == _WORD:
        return flat.to(torch.uint8)
    padded = torch.nn.functional.pad(flat.to(torch.uint8), (0, -count % _WORD)).view(-1, _WORD)
    word = torch.zeros(padded.shape[0], dtype=torch.int64, device=codes.device)
    for position in range(_WORD):
        word |= padded[:, position].to(torch.int64) << (bits * position)
    stream = torch.stack([(word >> (8 * byte)) & 0xFF for byte in range(bits)], dim=1)
    return stream.to(torch.uint8).reshape(-1)[: packed_size(count, bits)].contiguous()


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The first ``count`` codes of a stream, uint8 ``[count]``."""
    if packed.numel() != packed_size(count, bits):
        raise ValueError(f"{packed.numel()} bytes are not {count} codes of {bits} bits")
    if bits == _WORD:
        return packed
    stream = torch.nn.functional.pad(packed, (0, -packed.numel() % bits)).view(-1, bits)
    word = torch.zeros(stream.shape[0], dtype=torch.int64, device=packed.device)
    for byte in range(bits):
        word |= stream[:, byte].to(torch.int64) << (8 * byte)
    mask = (1 << bits) - 1
    codes = torch.empty(stream.shape[0], _WORD, dtype=torch.uint8, device=packed.device)
    for position in range(_WORD):
        codes[:, position] = (word >> (bits * position)) & mask
    return codes.reshape(-1)[:count]

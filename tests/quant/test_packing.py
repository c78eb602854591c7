import pytest
import torch

from qcompile.policy.size import packed_size
from qcompile.quant.packing import pack, unpack

BITS = range(2, 9)


def reference_stream(codes: list[int], bits: int) -> bytes:
    """One big little-endian integer, bit by bit."""
    total = sum(code << (bits * i) for i, code in enumerate(codes))
    return total.to_bytes(packed_size(len(codes), bits), "little")


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 63, 64, 65, 1001])
def test_pack_and_unpack_agree_with_one_big_integer(bits, count):
    generator = torch.Generator().manual_seed(count)
    codes = torch.randint(0, 1 << bits, (count,), generator=generator)
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8
    assert bytes(packed.tolist()) == reference_stream(codes.tolist(), bits)
    assert unpack(packed, bits, count).tolist() == codes.tolist()


@pytest.mark.parametrize("bits", BITS)
def test_the_largest_codes_survive(bits):
    codes = torch.full((17,), (1 << bits) - 1, dtype=torch.int16)
    assert torch.equal(unpack(pack(codes, bits), bits, 17).to(torch.int16), codes)


@pytest.mark.parametrize("bad", [-1, 16])
def test_a_code_that_does_not_fit_is_refused(bad):
    with pytest.raises(ValueError, match="does not fit"):
        pack(torch.tensor([0, bad]), 4)


def test_a_stream_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="are not 5 codes"):
        unpack(torch.zeros(2, dtype=torch.uint8), 4, 5)

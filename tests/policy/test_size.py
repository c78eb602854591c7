"""The torch-free forecast of bytes; that it equals the disk is tested in tests/quant."""

import pytest

from qcompile.policy.number_format import (
    BlockFormat,
    CodebookFormat,
    FloatFormat,
    NormalFormat,
    PowerFormat,
    SumFormat,
)
from qcompile.policy.scheme import (
    IntFormat,
    PerChannel,
    PerGroup,
    PerTensor,
    PerToken,
    QuantSlot,
)
from qcompile.policy.size import (
    activation_bytes,
    channel_axis,
    packed_size,
    weight_bytes,
    weight_layout,
)


def spec(granularity, *, bits=4, symmetric=True, dynamic=False):
    return QuantSlot(
        format=IntFormat(bits=bits, signed=symmetric),
        symmetric=symmetric,
        granularity=granularity,
        dynamic=dynamic,
    )


def test_only_the_end_of_the_stream_is_padded():
    assert [packed_size(n, 3) for n in (0, 1, 2, 3, 8, 9)] == [0, 1, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("granularity", "scales"), [(PerTensor(), 1), (PerChannel(), 6), (PerGroup(size=12), 18)]
)
def test_weight_bytes_count_codes_scales_and_zero_points(granularity, scales):
    shape = (6, 4, 3, 3)
    assert weight_bytes(spec(granularity), shape, 0) == 108 + 4 * scales
    assert weight_bytes(spec(granularity, symmetric=False), shape, 0) == 108 + 5 * scales


def test_channels_are_counted_along_the_output_axis():
    assert weight_bytes(spec(PerChannel(), bits=8), (3, 5), 1) == 15 + 4 * 5
    assert weight_bytes(spec(PerChannel(axis=1), bits=8), (3, 5), 1) == 15 + 4 * 3
    assert channel_axis(PerChannel(axis=-1), 0, 4) == 3
    assert channel_axis(PerGroup(size=2), -1, 2) == 1


def test_run_time_ranges_take_no_bytes():
    assert activation_bytes(spec(PerToken()), None) == 0
    assert activation_bytes(spec(PerTensor(), dynamic=True), None) == 0
    assert activation_bytes(spec(PerTensor(), symmetric=False), None) == 5
    assert activation_bytes(spec(PerChannel(axis=1)), 7) == 28


def test_meaningless_granularities_are_refused():
    with pytest.raises(ValueError, match="token"):
        weight_bytes(spec(PerToken()), (2, 2), 0)
    with pytest.raises(ValueError, match="group"):
        activation_bytes(spec(PerGroup(size=2)), 4)
    with pytest.raises(ValueError, match="channel count"):
        activation_bytes(spec(PerChannel(axis=1)), None)


@pytest.mark.parametrize(
    ("number", "granularity", "expected"),
    [
        (PowerFormat(4), PerChannel(), 120 + 4 * 5 + 4),
        (PowerFormat(4, 0.5), PerChannel(), 120 + 4 * 5),
        (NormalFormat(), PerGroup(16), 120 + 4 * 15),
        (CodebookFormat(3), PerTensor(), 90 + 4 + 4 * 8),
        (FloatFormat("e2m3"), PerTensor(), 180 + 4),
        (BlockFormat("nvfp4"), PerGroup(16), 120 + 15 + 4),
        (BlockFormat("mxfp6"), PerGroup(32), 180 + 10),
        (SumFormat((IntFormat(2, signed=True), NormalFormat())), PerChannel(), 60 + 120 + 2 * 20),
    ],
    ids=str,
)
def test_weight_bytes_count_every_part_of_every_term(number, granularity, expected):
    found = QuantSlot(format=number, symmetric=True, granularity=granularity)
    assert weight_bytes(found, (5, 48), 0) == expected
    names = [part.name("w") for part in weight_layout(found, (5, 48), 0)]
    assert len(set(names)) == len(names)

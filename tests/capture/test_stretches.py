from hypothesis import given
from hypothesis import strategies as st

from qcompile.capture.stretches import Apart, Stretch

ENDS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)), max_size=20)


@given(ENDS)
def test_apart_keeps_what_overlaps_nothing_before_it(ends):
    apart = Apart()
    kept: list[Stretch] = []
    for number, (start, length) in enumerate(ends):
        stretch = Stretch(f"{number}", start, start + length)
        rivals = sorted((one for one in kept if one.overlaps(stretch)), key=lambda one: one.start)
        assert apart.add(stretch) == (rivals[0] if rivals else None)
        kept += [] if rivals else [stretch]
    assert apart.stretches == sorted(kept, key=lambda one: one.start)

from qcompile.passes.held_out import split


def test_one_batch_in_eight_judges_the_last():
    assert split(16) == (list(range(14)), [14, 15])
    assert split(3) == ([0, 1], [2])
    assert split(1) == ([0], [0])


def test_data_may_say_how_many_judge():
    assert split(16, 1) == (list(range(15)), [15])
    assert split(5, 3) == ([0, 1], [2, 3, 4])

import operator

import pytest
import torch

from qcompile.compat.symbolic_shapes import SymbolicShapes


def decisions(look, example=(6, 5)):
    """What is heard while ``look`` sees a tensor that is free in both axes."""
    sizes = SymbolicShapes()
    fake = sizes.fake(torch.zeros(example), "x", (0, 1))
    made = []
    with sizes.active(made.append):
        look(*fake.shape)
    return made


@pytest.mark.parametrize(
    ("look", "text"),
    [
        (lambda n, t: bool(n > 3), "x.shape[0] > 3"),
        (lambda n, t: bool(n > 9), "x.shape[0] <= 9"),
        (lambda n, t: bool(n == 6), "x.shape[0] == 6"),
        (lambda n, t: bool(n != 6), "x.shape[0] == 6"),
        (lambda n, t: bool(n == t), "x.shape[0] != x.shape[1]"),
        (lambda n, t: int(n // 2 + t), "(x.shape[1] + (x.shape[0] // 2)) == 8"),
        (lambda n, t: operator.index(t), "x.shape[1] == 5"),
        (lambda n, t: bool((n * t) % 3 == 0), "((x.shape[0]*x.shape[1]) % 3) == 0"),
    ],
)
def test_a_decision_says_what_holds_for_the_example(look, text):
    (made,) = decisions(look)
    assert made.text == text


@pytest.mark.parametrize(
    ("look", "least"),
    [
        (lambda n, t: n * t >= 1, 1),
        (lambda n, t: n != 0, 1),
        (lambda n, t: n > 1, 2),
        (lambda n, t: n + t == 2, 2),
        (lambda n, t: n >= 3, 3),
        (lambda n, t: n == 6, 7),
    ],
)
def test_least_size_from_which_the_answer_is_always_the_same(look, least):
    for made in decisions(lambda n, t: bool(look(n, t))):
        settled = [made.is_settled_from(size) for size in range(1, 9)]
        assert settled == [size >= least for size in range(1, 9)]


def test_a_size_of_which_one_value_is_left_is_fixed():
    made = decisions(lambda n, t: (n > 2, n == 6, t == 5))
    assert made == []
    made = decisions(lambda n, t: [bool(n > 2), bool(n == 6), bool(t == 5), bool(n == 6)])
    assert [(one.text, one.fixes_a_size) for one in made] == [
        ("x.shape[0] > 2", False),
        ("x.shape[0] == 6", True),
        ("x.shape[1] == 5", True),
    ]


def test_what_is_known_already_is_not_decided_again():
    made = decisions(lambda n, t: [bool(n == t), bool(n == t), bool(n + 1 == t + 1)], (5, 5))
    assert [one.text for one in made] == ["x.shape[0] == x.shape[1]"]


def test_nothing_is_heard_outside_of_the_run():
    sizes = SymbolicShapes()
    fake = sizes.fake(torch.zeros(6, 5), "x", (0, 1))
    made = []
    with sizes.active(made.append):
        pass
    assert fake.shape[0] == 6
    assert made == []

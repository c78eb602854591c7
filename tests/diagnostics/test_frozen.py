"""``@frozen`` against ``@dataclass(frozen=True, slots=True)``: nobody can tell them apart."""

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, is_dataclass, replace

import pytest

from qcompile.diagnostics.frozen import frozen


@frozen
class Point:
    """A doc string."""

    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.x + self.y


@dataclass(frozen=True, slots=True)
class Plain:
    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)


@frozen
class Named(Point):
    name: str = "n"


@frozen
class Checked:
    x: int

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("negative")

    def __repr__(self) -> str:
        return "own"


@pytest.mark.parametrize(
    ("given", "named"), [((1,), {}), ((1, 2), {}), ((1,), {"tags": ["a"]}), ((), {"y": 3, "x": 1})]
)
def test_arguments_are_those_of_a_dataclass(given, named) -> None:
    mine, plain = Point(*given, **named), Plain(*given, **named)
    assert repr(mine) == repr(plain).replace("Plain", "Point")
    assert [f.name for f in fields(mine)] == [f.name for f in fields(plain)]


@pytest.mark.parametrize(
    ("given", "named"), [((), {}), ((1, 2, [], 4), {}), ((1,), {"x": 1}), ((1,), {"z": 1})]
)
def test_wrong_arguments_are_type_errors_as_of_a_dataclass(given, named) -> None:
    for cls in (Point, Plain):
        with pytest.raises(TypeError):
            cls(*given, **named)


def test_instances_cannot_change_and_have_no_dict() -> None:
    point = Point(1)
    for change in (lambda: setattr(point, "x", 2), lambda: delattr(point, "x")):
        with pytest.raises(FrozenInstanceError):
            change()
    with pytest.raises(FrozenInstanceError):
        point.other = 1
    assert not hasattr(point, "__dict__")


def test_equality_and_hash_are_those_of_class_and_content() -> None:
    assert Point(1, 2) == Point(1, 2) != Point(1, 3)
    assert Point(1) != Plain(1)
    assert Named(1) != Point(1)
    assert len({Checked(1), Checked(1), Checked(2)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(1))


def test_default_factory_makes_a_new_value_each_time() -> None:
    assert Point(1).tags is not Point(1).tags


def test_match_replace_copy_and_pickle() -> None:
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)
    assert replace(Point(1, 2), y=5) == Point(1, 5)
    for again in (copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):
        assert again(Point(1, 2)) == Point(1, 2)
    assert is_dataclass(Point)
    assert Point.__doc__ == "A doc string."
    assert Point(1, 2).total == 3


def test_fields_are_inherited() -> None:
    assert Named(1, 2, ["t"], "x") == Named(1, name="x", tags=["t"], y=2)
    assert repr(Named(1)) == "Named(x=1, y=0, tags=[], name='n')"


def test_own_methods_stay() -> None:
    assert repr(Checked(1)) == "own"
    with pytest.raises(ValueError, match="negative"):
        Checked(-1)

"""``@frozen``: a frozen dataclass with slots whose methods are shared, not generated.

``@dataclass(frozen=True, slots=True)`` compiles eight methods for each class, about 1 ms. The front
end has two hundred such classes, which was a third of the time of ``qcompile check``. Here all
classes have the same methods; a tenth of the cost is left. To ``fields``, ``replace``, ``match``
and type checkers they are dataclasses as any other; ``field(init=False)`` is not for them.
"""

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Give a class the fields that it annotates, once and for all."""
    # without one, `dataclass` would inspect the signature: half of its time
    cls.__doc__ = cls.__doc__ or f"{cls.__name__}({', '.join(cls.__annotations__)})"
    made = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    init = _init_and_check if hasattr(cls, "__post_init__") else _init
    for name, method in {"__init__": init, **_METHODS}.items():
        if name not in vars(cls):
            setattr(made, name, method)
    return made


def _init(self: Any, /, *values: object, **named: object) -> None:  # noqa: ANN401
    names: tuple[str, ...] = self.__match_args__
    if named or len(values) != len(names):
        values = _completed(type(self), values, named)
    for name, one in zip(names, values, strict=False):
        _set(self, name, one)


def _init_and_check(self: Any, /, *values: object, **named: object) -> None:  # noqa: ANN401
    _init(self, *values, **named)
    self.__post_init__()


def _completed(
    cls: type[Any], values: tuple[object, ...], named: dict[str, object]
) -> tuple[object, ...]:
    """One value for each field: what is given by place, by name, or by default."""
    names: tuple[str, ...] = cls.__match_args__
    known: dict[str, Field[object]] = cls.__dataclass_fields__
    given = dict(zip(names, values, strict=False))
    wrong = sorted(named.keys() - set(names) | named.keys() & given.keys())
    if len(values) > len(names) or wrong:
        raise TypeError(f"{cls.__qualname__}: {wrong or 'arguments'} in excess")
    given |= named
    return tuple(given[n] if n in given else _default(cls, known[n]) for n in names)


def _default(cls: type, missing: Field[object]) -> object:
    if missing.default_factory is not MISSING:
        return missing.default_factory()
    if missing.default is MISSING:
        raise TypeError(f"{cls.__qualname__}: argument `{missing.name}` is missing")
    return missing.default


def _content(self: Any) -> tuple[object, ...]:  # noqa: ANN401
    return tuple([getattr(self, name) for name in self.__match_args__])


def _eq(self: object, other: object) -> bool:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return _content(self) == _content(other)


def _hash(self: object) -> int:
    return hash(_content(self))


def _repr(self: Any) -> str:  # noqa: ANN401
    shown: list[str] = []
    # trees are deep: a comprehension would be one more frame for each of their levels
    for name in self.__match_args__:
        shown.append(f"{name}={getattr(self, name)!r}")
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse(self: object, name: str, *_: object) -> None:
    raise FrozenInstanceError(f"cannot change field {name!r}")


def _reduce(self: object) -> tuple[type, tuple[object, ...]]:
    return type(self), _content(self)


_set = object.__setattr__
_METHODS = {
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _refuse,
    "__delattr__": _refuse,
    "__reduce__": _reduce,
}

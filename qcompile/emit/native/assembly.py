"""A function in LLVM assembly, written line by line."""

from collections.abc import Iterable
from dataclasses import dataclass

LANES = 16
"""Of a vector: 32-bit numbers in 512 bits."""
INTS = f"<{LANES} x i32>"
FLOATS = f"<{LANES} x float>"
BYTES = f"<{LANES} x i8>"


@dataclass(frozen=True, slots=True)
class Signature:
    """Of a function that returns nothing: addresses come first, then numbers of 64 bits."""

    name: str
    addresses: tuple[str, ...]
    numbers: tuple[str, ...] = ()

    @property
    def kinds(self) -> list[str]:
        return ["ptr"] * len(self.addresses) + ["i64"] * len(self.numbers)

    def values(self, **given: int) -> tuple[int, ...]:
        """Arguments by name, in order."""
        return tuple([given[name] for name in (*self.addresses, *self.numbers)])

    def definition(self) -> str:
        names = (*self.addresses, *self.numbers)
        listed = ", ".join(f"{kind} %{name}" for kind, name in zip(self.kinds, names, strict=True))
        return f"define void @{self.name}({listed}) {{"

    def call(self, **changed: str) -> str:
        """From a function with parameters of the same names, but for what is changed."""
        names = (*self.addresses, *self.numbers)
        assert changed.keys() <= set(names)
        listed = ", ".join(
            f"{kind} {changed.get(name, '%' + name)}"
            for kind, name in zip(self.kinds, names, strict=True)
        )
        return f"call void @{self.name}({listed})"


class Assembly:
    """Lines of one function, and names for its values that no other has."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._made = 0

    def __call__(self, *lines: str) -> None:
        self.lines += lines

    def value(self, expression: str) -> str:
        """The name of what ``expression`` gives."""
        self._made += 1
        name = f"%t{self._made}"
        self(f"{name} = {expression}")
        return name

    def at(self, kind: str, base: str, index: str | int) -> str:
        """The address of a number of ``kind`` behind ``base``."""
        return self.value(f"getelementptr {kind}, ptr {base}, i64 {index}")

    def load(self, kind: str, address: str) -> str:
        return self.value(f"load {kind}, ptr {address}, align 1")

    def store(self, kind: str, value: str, address: str) -> None:
        self(f"store {kind} {value}, ptr {address}, align 1")

    def everywhere(self, kind: str, value: str) -> str:
        """A vector with the number ``value`` in each lane."""
        vector = f"<{LANES} x {kind}>"
        one = self.value(f"insertelement {vector} poison, {kind} {value}, i32 0")
        return self.value(f"shufflevector {vector} {one}, {vector} poison, {INTS} zeroinitializer")

    def added(self, parts: Iterable[str]) -> str:
        """The sum of vectors of whole numbers."""
        total, *rest = parts
        for part in rest:
            total = self.value(f"add {INTS} {total}, {part}")
        return total

    def count(self, name: str, last: str, body: str, behind: str) -> None:
        """End the loop that counts ``%name``: another round of ``body`` or on to ``behind``."""
        self(
            f"%{name}.next = add i64 %{name}, 1",
            f"%{name}.more = icmp ult i64 %{name}.next, {last}",
            f"br i1 %{name}.more, label %{body}, label %{behind}",
        )

    def text(self) -> str:
        return "\n".join(self.lines) + "\n}\n"


def constant(value: int) -> str:
    """``value`` in each lane."""
    return "<" + ", ".join([f"i32 {value}"] * LANES) + ">"

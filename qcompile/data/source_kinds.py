"""The three kinds of data sources: in memory, by index, by iteration.

What the user's code does wrong while it is read is raised as ``CompileError`` (QR710).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from qcompile.data.batches import (
    Batch,
    as_batch,
    join,
    join_problem,
    row_problem,
    rows,
    slice_rows,
    take_rows,
)
from qcompile.data.project import Project
from qcompile.data.purpose import DATA
from qcompile.data.user_code import Raised, raised, run_user_code
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError


class DataSource(Protocol):
    """Samples in a fixed order, readable more than once."""

    @property
    def labels(self) -> str | None:
        """Name of the tensor that is not for the model, if the source itself knows."""
        ...

    def __len__(self) -> int: ...

    def batches(self, size: int) -> Iterator[Batch]:
        """All samples in order; only the last batch may be smaller."""
        ...

    def read(self, indices: Sequence[int]) -> Batch:
        """The samples at ``indices``, in that order, as one batch."""
        ...


class MapDataset(Protocol):
    """What we use of a map-style ``torch.utils.data.Dataset``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


@dataclass(frozen=True, slots=True)
class MemorySource:
    content: Batch
    labels: str | None = None

    def __len__(self) -> int:
        return rows(self.content)

    def batches(self, size: int) -> Iterator[Batch]:
        for start in range(0, len(self), size):
            yield slice_rows(self.content, start, start + size)

    def read(self, indices: Sequence[int]) -> Batch:
        return take_rows(self.content, indices)


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Samples by index; ``collate`` makes a batch of a list of them."""

    name: str
    dataset: MapDataset
    collate: Callable[[list[object]], object]
    project: Project
    length: int
    labels: str | None = None

    def __len__(self) -> int:
        return self.length

    def batches(self, size: int) -> Iterator[Batch]:
        for start in range(0, self.length, size):
            yield self.read(range(start, min(start + size, self.length)))

    def read(self, indices: Sequence[int]) -> Batch:
        collated = run_user_code(
            lambda: self.collate([self.dataset[index] for index in indices]), self.project
        )
        return checked(self.name, collated)


@dataclass(frozen=True, slots=True)
class IteratedSource:
    """Batches of any size from something that can be iterated again and again."""

    name: str
    iterable: Iterable[object]
    project: Project
    length: int
    labels: str | None = None

    def __len__(self) -> int:
        return self.length

    def batches(self, size: int) -> Iterator[Batch]:
        waiting: list[Batch] = []
        for batch in checked_batches(self.name, self.iterable, self.project):
            waiting.append(batch)
            if sum(map(rows, waiting)) >= size:
                joined = joined_batches(self.name, waiting)
                whole = rows(joined) // size * size
                for start in range(0, whole, size):
                    yield slice_rows(joined, start, start + size)
                waiting = [slice_rows(joined, whole, rows(joined))] if rows(joined) > whole else []
        if waiting:
            yield joined_batches(self.name, waiting)

    def read(self, indices: Sequence[int]) -> Batch:
        """One pass over the batches, as far as needed."""
        position = {index: place for place, index in enumerate(indices)}
        picked: list[Batch] = []
        places: list[int] = []
        start = 0
        for batch in checked_batches(self.name, self.iterable, self.project):
            wanted = [i for i in range(start, start + rows(batch)) if i in position]
            if wanted:
                picked.append(take_rows(batch, [i - start for i in wanted]))
                places.extend(position[i] for i in wanted)
            start += rows(batch)
            if len(places) == len(position):
                break
        else:
            raise CompileError([unusable(self.name, "has fewer samples than at first")])
        order = sorted(range(len(places)), key=places.__getitem__)
        return take_rows(joined_batches(self.name, picked), order)


def checked_batches(name: str, iterable: Iterable[object], project: Project) -> Iterator[Batch]:
    """The batches of one pass."""
    iterator = cast(
        "Iterator[object]", _value(name, run_user_code(lambda: iter(iterable), project))
    )
    while True:
        item = _value(name, run_user_code(lambda: next(iterator, _END), project))
        if item is _END:
            return
        yield checked(name, item)


def checked(name: str, value: object) -> Batch:
    """What the user's code gave us, as a batch."""
    batch = as_batch(_value(name, value))
    if batch is None:
        reason = f"has batches of type {described(value)}, not tensors, tuples or dicts of tensors"
        raise CompileError([unusable(name, reason)])
    problem = row_problem(batch)
    if problem is not None:
        raise CompileError([unusable(name, problem)])
    return batch


def joined_batches(name: str, batches: Sequence[Batch]) -> Batch:
    problem = join_problem(batches)
    if problem is not None:
        raise CompileError([unusable(name, problem)])
    return join(batches)


def unusable(name: str, reason: str, way_out: str | None = None) -> Diagnostic:
    """QR710: the data cannot be used."""
    return Diagnostic(Code.DATA_REFERENCE, f"`{name}` {reason}", subject=name, help=way_out)


def described(value: object) -> str:
    """``dict of list``: enough to see what came instead of tensors."""
    inner: object = None
    match value:
        case dict():
            inner = next((item for item in value.values()), None)
        case list() | tuple():
            inner = next((item for item in value), None)
        case _:
            return f"`{type(value).__name__}`"
    return f"`{type(value).__name__}` of `{type(inner).__name__}`"


class _End:
    """Of an iteration; the user's own values may be anything."""


_END = _End()


def _value(name: str, result: object) -> object:
    if isinstance(result, Raised):
        raise CompileError([raised(name, result, DATA)])
    return result

"""From a data reference to a data source."""

from collections.abc import Callable, Iterable, Sized
from pathlib import Path
from typing import cast

from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from qcompile.data.batches import as_batch, content_sha256, row_problem, rows
from qcompile.data.images import open_images
from qcompile.data.import_factory import call_factory
from qcompile.data.project import Project, project_around
from qcompile.data.purpose import DATA
from qcompile.data.reading import Reading
from qcompile.data.reference import (
    CallableReference,
    HuggingFaceReference,
    ImagesReference,
    SafetensorsReference,
    TextReference,
    ZooReference,
    parse_reference,
)
from qcompile.data.source_kinds import (
    DatasetSource,
    DataSource,
    IteratedSource,
    MapDataset,
    MemorySource,
    checked_batches,
    described,
    unusable,
)
from qcompile.data.text import open_text
from qcompile.data.tokens import CutSource, has_tokens
from qcompile.data.user_code import Raised, raised, run_user_code
from qcompile.data.weights import open_weights
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.zoo.catalogue import DATA as ZOO
from qcompile.zoo.catalogue import zoo_data

ANY_LENGTH = Reading()


def open_data(
    reference: str,
    root: Path,
    trusted: frozenset[str] = frozenset(),
    reading: Reading = ANY_LENGTH,
) -> tuple[DataSource | None, list[Diagnostic]]:
    """``root`` is the recipe's folder. One sample is read twice to see whether it stays equal."""
    try:
        source = _open(reference, project_around(root, trusted), reading)
        if isinstance(source, Diagnostic):
            return None, [source]
        if len(source) == 0:
            return None, [empty_data(reference)]
        source = _of_length(reference, source, reading.length)
        if isinstance(source, Diagnostic):
            return None, [source]
        same = content_sha256(source.read([0])) == content_sha256(source.read([0]))
    except CompileError as error:
        return None, error.diagnostics
    return source, [] if same else [changing_data(reference)]


def source_of(
    name: str, made: object, root: Path, length: int | None = None
) -> tuple[DataSource | None, list[Diagnostic]]:
    """A source over data that the caller holds: tensors, a ``Dataset``, re-iterable batches."""
    try:
        source = _recognise(name, made, project_around(root))
        if isinstance(source, Diagnostic):
            return None, [source]
        if len(source) == 0:
            return None, [empty_data(name)]
        source = _of_length(name, source, length)
    except CompileError as error:
        return None, error.diagnostics
    return (None, [source]) if isinstance(source, Diagnostic) else (source, [])


def empty_data(reference: str) -> Diagnostic:
    """QR711: there is nothing to calibrate or measure with."""
    return Diagnostic(Code.EMPTY_DATA, f"`{reference}` has no samples", subject=reference)


def changing_data(reference: str) -> Diagnostic:
    """QR704: shuffled or augmented without a seed, so a second run would see other samples."""
    return Diagnostic(
        Code.NO_SEED,
        f"`{reference}` yields another first sample each time",
        subject=reference,
        help="return the samples in a fixed order; `seed` shuffles them",
    )


def without_tokens(reference: str) -> Diagnostic:
    """QR710: ``seq_len`` would have no effect."""
    return unusable(
        reference,
        "has no token ids (whole numbers `[samples, tokens]`) for `seq_len` to cut",
        "leave `seq_len` out",
    )


def unknown_zoo_data(name: str) -> Diagnostic:
    """QR710: nothing of that name ships with the project."""
    known = [item.name for item in ZOO]
    return Diagnostic(
        Code.DATA_REFERENCE,
        f"there is no data `zoo:{name}`",
        subject=f"zoo:{name}",
        notes=(f"there are {', '.join(f'`zoo:{item}`' for item in known)}",),
        help=did_you_mean(name, known),
    )


def _open(reference: str, project: Project, reading: Reading) -> DataSource | Diagnostic:
    match parse_reference(reference, DATA):
        case ZooReference(name):
            item = zoo_data(name)
            return (
                unknown_zoo_data(name) if item is None else MemorySource(item.load(), item.labels)
            )
        case SafetensorsReference(file):
            return _open_file(reference, project.directory / file)
        case TextReference(file):
            return open_text(reference, project.directory / file, reading, project)
        case ImagesReference(directory):
            return open_images(reference, project.directory / directory, reading, project)
        case CallableReference() as function:
            made = call_factory(function, (), DATA, project)
            return made if isinstance(made, Diagnostic) else _recognise(reference, made, project)
        case HuggingFaceReference():
            raise AssertionError("parse_reference refuses a model where data is needed")
        case Diagnostic() as problem:
            return problem


def _of_length(name: str, source: DataSource, length: int | None) -> DataSource | Diagnostic:
    if length is None:
        return source
    return CutSource(source, length) if has_tokens(source) else without_tokens(name)


def _open_file(reference: str, path: Path) -> DataSource | Diagnostic:
    """A single tensor is a batch of its own; several are a dict by their names."""
    stored = open_weights(path)
    if isinstance(stored, Diagnostic):
        return stored
    if not stored.names:
        return empty_data(reference)
    tensors = {name: stored.tensor(name) for name in stored.names}
    return _in_memory(reference, next(iter(tensors.values())) if len(tensors) == 1 else tensors)


def _recognise(name: str, made: object, project: Project) -> DataSource | Diagnostic:
    match made:
        case DataLoader():
            return _from_loader(name, cast("DataLoader[object]", made), project)
        case Dataset() if hasattr(made, "__len__"):
            return _by_index(name, cast(MapDataset, made), default_collate, project)
        case Tensor() | tuple() | dict():
            return _in_memory(name, cast(object, made))
        case Iterable() if not isinstance(made, str | bytes):
            return _by_iteration(name, cast("Iterable[object]", made), project)
        case _:
            return unusable(
                name,
                f"returned {described(made)}, which is no data",
                "return a tensor, a tuple or dict of tensors, a `Dataset` or a list of batches",
            )


def _in_memory(name: str, made: object) -> DataSource | Diagnostic:
    batch = as_batch(made)
    if batch is None:
        return unusable(name, f"returned {described(made)}, not tensors only")
    problem = row_problem(batch)
    return MemorySource(batch) if problem is None else unusable(name, problem)


def _from_loader(name: str, loader: "DataLoader[object]", project: Project) -> DataSource:
    """A plain or shuffling loader is read by index, in order: the shuffle is ours, with a seed."""
    plain = isinstance(loader.sampler, RandomSampler | SequentialSampler)
    dataset = loader.dataset
    if plain and loader.batch_size is not None and isinstance(dataset, Sized):
        collate = cast("Callable[[list[object]], object]", loader.collate_fn)
        return _by_index(name, cast(MapDataset, dataset), collate, project)
    return _by_iteration(name, loader, project)


def _by_index(
    name: str, dataset: MapDataset, collate: Callable[[list[object]], object], project: Project
) -> DataSource:
    length = run_user_code(lambda: len(dataset), project)
    if isinstance(length, Raised):
        raise CompileError([raised(name, length, DATA)])
    return DatasetSource(name, dataset, collate, project, length)


def _by_iteration(name: str, iterable: Iterable[object], project: Project) -> DataSource:
    """Counted in a first pass, which also checks every batch."""
    again = run_user_code(lambda: iter(iterable) is not iterable, project)
    if isinstance(again, Raised):
        raise CompileError([raised(name, again, DATA)])
    if not again:
        way_out = "return a list of batches, or an object whose `__iter__` starts anew"
        raise CompileError([unusable(name, "can be iterated only once", way_out)])
    length = sum(rows(batch) for batch in checked_batches(name, iterable, project))
    return IteratedSource(name, iterable, project, length)

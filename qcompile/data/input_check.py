"""Whether a batch fits the inputs of a model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeAlias

import torch
from torch import Tensor

from qcompile.data.batches import Batch, named_tensors
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.suggest import did_you_mean

InputSpec: TypeAlias = tuple[torch.dtype, tuple[int | None, ...]]
"""Type and shape; a free dimension is ``None``."""


def expected_inputs(
    example: Iterable[tuple[str, Tensor]], free: Mapping[str, Sequence[int]]
) -> dict[str, InputSpec]:
    """What an example input asks for; the batch is free, and the axes ``free`` of each input."""
    return {
        name: (value.dtype, _sizes(value.shape, {0, *free.get(name, ())}))
        for name, value in example
    }


def _sizes(shape: Sequence[int], free: AbstractSet[int]) -> tuple[int | None, ...]:
    return tuple(None if axis in free else size for axis, size in enumerate(shape))


def check_batch(batch: Batch, expected: Mapping[str, InputSpec]) -> list[Diagnostic]:
    """``batch`` without labels; tensors and tuples are matched by position, dicts by name."""
    if not isinstance(batch, dict):
        count = len(named_tensors(batch))
        if count != len(expected):
            return [wrong_count(count, expected)]
    return list(_problems(by_input(batch, expected), expected))


def by_input(batch: Batch, expected: Mapping[str, InputSpec]) -> dict[str, Tensor]:
    """Tensors of a batch that has as many as there are inputs."""
    tensors = named_tensors(batch)
    if isinstance(batch, dict):
        return dict(tensors)
    return {name: tensor for name, (_, tensor) in zip(expected, tensors, strict=True)}


def wrong_count(count: int, expected: Mapping[str, InputSpec]) -> Diagnostic:
    """QR702: more or fewer tensors than the model has inputs."""
    names = ", ".join(f"`{name}`" for name in expected)
    return Diagnostic(
        Code.BATCH_MISMATCH,
        f"a batch has {count} tensors, the model {len(expected)} inputs",
        subject="batch",
        notes=(f"the inputs are {names}",),
        help="if the last tensor is not for the model, name it with `labels`",
    )


def wrong_key(name: str, expected: Mapping[str, InputSpec]) -> Diagnostic:
    """QR702: a tensor that the model does not take."""
    guess = did_you_mean(name, expected)
    return Diagnostic(
        Code.BATCH_MISMATCH,
        f"the batch has `{name}`, which is no input of the model",
        subject=name,
        help=guess or "if it is not for the model, name it with `labels`",
    )


def missing_key(name: str, present: Iterable[str]) -> Diagnostic:
    """QR702: an input of the model that the batch lacks."""
    return Diagnostic(
        Code.BATCH_MISMATCH,
        f"the batch lacks the model input `{name}`",
        subject=name,
        help=did_you_mean(name, present),
    )


def wrong_shape(name: str, shape: Sequence[int], expected: Sequence[int | None]) -> Diagnostic:
    """QR702: another rank or another size than the example input."""
    return Diagnostic(
        Code.BATCH_MISMATCH,
        f"batch {list(shape)} does not fit model input `{name}` {_shown(expected)}",
        subject=name,
    )


def other_sizes(reference: str, reason: str) -> Diagnostic:
    """QR702: the model would do something else with inputs of these sizes."""
    return Diagnostic(
        Code.BATCH_MISMATCH,
        f"the graph of the model does not hold for a batch of `{reference}`: {reason}",
        subject=reference,
        help="write the sizes of the data in the `inputs` of the model, as numbers, or cut the data"
        " (`seq_len`)",
    )


def does_not_fit(
    reference: str, shapes: Iterable[Sequence[int]], reason: str, way_out: str
) -> Diagnostic:
    """QR702: the model stopped on a batch of this data."""
    return Diagnostic(
        Code.BATCH_MISMATCH,
        f"the model cannot take a batch of `{reference}`: "
        + ", ".join(str(list(shape)) for shape in shapes),
        subject=reference,
        notes=tuple(reason.splitlines()[:1]),
        help=way_out,
    )


def wrong_dtype(name: str, dtype: torch.dtype, expected: torch.dtype) -> Diagnostic:
    """QR702: another type than the example input."""
    return Diagnostic(
        Code.BATCH_MISMATCH,
        f"batch of {_dtype(dtype)} does not fit model input `{name}` of {_dtype(expected)}",
        subject=name,
    )


def _problems(
    tensors: Mapping[str, Tensor], expected: Mapping[str, InputSpec]
) -> Iterator[Diagnostic]:
    for name in tensors:
        if name not in expected:
            yield wrong_key(name, expected)
    for name, (dtype, shape) in expected.items():
        tensor = tensors.get(name)
        if tensor is None:
            yield missing_key(name, tensors)
        elif not _fits(tensor.shape, shape):
            yield wrong_shape(name, tensor.shape, shape)
        elif tensor.dtype != dtype:
            yield wrong_dtype(name, tensor.dtype, dtype)


def _fits(shape: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(
        wanted is None or size == wanted for size, wanted in zip(shape, expected, strict=True)
    )


def _shown(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('*' if size is None else str(size) for size in shape)}]"


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

"""Put the tensors of a weight source into a model, or say why they do not belong there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qcompile.data.weights import WeightSource
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.suggest import nearest

NAMES_SHOWN = 8
COUNTER = "num_batches_tracked"
"""Of batch norm, unused in eval mode; older checkpoints have none."""


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor of the model with every name it has; tied tensors have several."""

    tensor: Tensor
    names: tuple[str, ...]


def load_into(model: nn.Module, source: WeightSource) -> list[Diagnostic]:
    """Copy in place, so that ties survive. On an error the model is not touched."""
    places = model_places(model)
    problems = [*_name_problems(places, source), *_fit_problems(places, source)]
    if problems:
        return problems
    try:
        problems = list(_tie_problems(places, source))
        if problems:
            return problems
        _materialise(model)
        _copy(model_places(model), source)
    except CompileError as error:
        return error.diagnostics
    return finite_problems(model)


def model_places(model: nn.Module) -> list[Place]:
    """The persistent tensors of the model, in the order of its state dict."""
    names: dict[int, list[str]] = {}
    tensors: dict[int, Tensor] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor):
            tensors[id(value)] = value
            names.setdefault(id(value), []).append(name)
    return [Place(tensor, tuple(names[key])) for key, tensor in tensors.items()]


def finite_problems(model: nn.Module) -> list[Diagnostic]:
    """Parameters may hold neither NaN nor Inf; a buffer may hold Inf: masks do."""
    found = [_finite_problem(name, value, inf=True) for name, value in model.named_parameters()]
    found += [_finite_problem(name, value, inf=False) for name, value in model.named_buffers()]
    return [item for item in found if item is not None]


def non_finite(name: str, nans: int, infs: int) -> Diagnostic:
    """QR514: a weight that is not a number would spread over the whole model."""
    counts = " and ".join(f"{n} {word}" for n, word in ((nans, "NaN"), (infs, "Inf")) if n)
    plural = "s" if nans + infs > 1 else ""
    return Diagnostic(
        Code.NON_FINITE_WEIGHT,
        f"`{name}` has {counts} value{plural}",
        subject=name,
        help="repair the checkpoint",
    )


def missing_names(missing: Sequence[str], known: Sequence[str], way_out: str | None) -> Diagnostic:
    """QR523: the model has tensors that the weights lack."""
    return Diagnostic(
        Code.WEIGHT_NAMES,
        f"the weights lack {_count(missing)} of the model",
        subject=missing[0],
        notes=_listing(missing, known, "the weights have"),
        help=way_out,
    )


def unexpected_names(extra: Sequence[str], known: Sequence[str], way_out: str | None) -> Diagnostic:
    """QR523: the weights have tensors that the model lacks."""
    return Diagnostic(
        Code.WEIGHT_NAMES,
        f"the model lacks {_count(extra)} of the weights",
        subject=extra[0],
        notes=_listing(extra, known, "the model has"),
        help=way_out,
    )


def untied_content(names: Sequence[str]) -> Diagnostic:
    """QR523: one tensor in the model, two in the weights."""
    listed = " and ".join(f"`{name}`" for name in names)
    return Diagnostic(
        Code.WEIGHT_NAMES,
        f"{listed} are one tensor in the model, but differ in the weights",
        subject=names[0],
        help="untie them in the model factory, or keep one of them in the weight file",
    )


def wrong_shape(name: str, file: Sequence[int], model: Sequence[int]) -> Diagnostic:
    """QR524: the shapes differ."""
    return Diagnostic(
        Code.WEIGHT_SHAPE,
        f"`{name}` is {list(file)} in the weights and {list(model)} in the model",
        subject=name,
        help="give the model factory the arguments that the weights were made with",
    )


def wrong_kind(name: str, file: torch.dtype, model: torch.dtype) -> Diagnostic:
    """QR524: floating point on one side, integer on the other."""
    return Diagnostic(
        Code.WEIGHT_SHAPE,
        f"`{name}` is {_dtype(file)} in the weights and {_dtype(model)} in the model",
        subject=name,
        help="use the checkpoint from before it was quantized",
    )


def _name_problems(places: list[Place], source: WeightSource) -> Iterator[Diagnostic]:
    stored = frozenset(source.names)
    known = [name for place in places for name in place.names]
    missing = [
        place.names[0]
        for place in places
        if stored.isdisjoint(place.names) and not place.names[0].endswith(COUNTER)
    ]
    extra = sorted(stored.difference(known))
    way_out = _prefix_help(known, source.names)
    if missing:
        yield missing_names(missing, extra or source.names, way_out)
    if extra:
        yield unexpected_names(extra, missing or known, None if missing else way_out)


def _fit_problems(places: list[Place], source: WeightSource) -> Iterator[Diagnostic]:
    for place, name in _shared_names(places, source):
        stored = source.stored(name)
        shape = tuple(place.tensor.shape)
        if stored.shape != shape:
            yield wrong_shape(name, stored.shape, shape)
        elif _kind(stored.dtype) != _kind(place.tensor.dtype):
            yield wrong_kind(name, stored.dtype, place.tensor.dtype)


def _tie_problems(places: list[Place], source: WeightSource) -> Iterator[Diagnostic]:
    stored = frozenset(source.names)
    for place in places:
        twins = [name for name in place.names if name in stored]
        if len(twins) > 1 and len({source.sha256(name) for name in twins}) > 1:
            yield untied_content(twins)


def _copy(places: list[Place], source: WeightSource) -> None:
    with torch.no_grad():
        for place, name in _shared_names(places, source):
            place.tensor.copy_(source.tensor(name))


def _shared_names(places: list[Place], source: WeightSource) -> Iterator[tuple[Place, str]]:
    stored = frozenset(source.names)
    return ((place, name) for place in places for name in place.names if name in stored)


def _materialise(model: nn.Module) -> None:
    """Give persistent meta tensors memory, tied ones the same."""
    persistent = {id(place.tensor) for place in model_places(model) if place.tensor.is_meta}
    real: dict[int, Tensor] = {}
    for module in model.modules():
        own = [
            *module.named_parameters(recurse=False, remove_duplicate=False),
            *module.named_buffers(recurse=False, remove_duplicate=False),
        ]
        for name, value in own:
            if id(value) in persistent:
                setattr(module, name, real.setdefault(id(value), _with_memory(value)))


def _with_memory(value: Tensor) -> Tensor:
    empty = torch.zeros(value.shape, dtype=value.dtype)
    if isinstance(value, nn.Parameter):
        return nn.Parameter(empty, requires_grad=value.requires_grad)
    return empty


def _finite_problem(name: str, value: Tensor, *, inf: bool) -> Diagnostic | None:
    if value.is_meta or not (value.is_floating_point() or value.is_complex()):
        return None
    exact = value.detach() if value.element_size() > 1 else value.detach().float()
    nans = int(exact.isnan().sum())
    infs = int(exact.isinf().sum()) if inf else 0
    return non_finite(name, nans, infs) if nans or infs else None


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_floating_point:
        return "floating point"
    return "complex" if dtype.is_complex else "integer"


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _prefix_help(model: Sequence[str], weights: Sequence[str]) -> str | None:
    """A prefix that one side has on every name is the most common cause."""
    extra = _prefix(model, weights)
    if extra is not None:
        return f"every name in the weights starts with `{extra}`: strip it"
    lacking = _prefix(weights, model)
    if lacking is not None:
        return f"every name in the model starts with `{lacking}`: put it before those in the file"
    return None


def _prefix(inner: Sequence[str], outer: Sequence[str]) -> str | None:
    """``p`` if every outer name is ``p`` and an inner name, and ``p`` ends with a dot."""
    for name in inner if outer else ():
        prefix = outer[0].removesuffix(name)
        if prefix.endswith(".") and {f"{prefix}{item}" for item in inner}.issuperset(outer):
            return prefix
    return None


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} tensors" if len(names) > 1 else f"tensor `{names[0]}`"


def _listing(names: Sequence[str], known: Sequence[str], who: str) -> tuple[str, ...]:
    notes: list[str] = []
    for name in names[:NAMES_SHOWN]:
        near = nearest(name, known)
        notes.append(f"`{name}`; {who} `{near[0]}`" if near else f"`{name}`")
    if len(names) > NAMES_SHOWN:
        notes.append(f"and {len(names) - NAMES_SHOWN} more")
    return tuple(notes)

"""From a model reference to a module that is ready to be captured."""

import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from qcompile.data.hugging_face import build_pretrained
from qcompile.data.import_factory import Literal, call_factory, import_function
from qcompile.data.project import Project, project_around
from qcompile.data.purpose import MODEL
from qcompile.data.reference import (
    CallableReference,
    HuggingFaceReference,
    ImagesReference,
    SafetensorsReference,
    TextReference,
    ZooReference,
    parse_reference,
)
from qcompile.data.weight_loading import finite_problems, load_into
from qcompile.data.weights import MemoryWeights, WeightSource, open_weights
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, has_errors
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.zoo.catalogue import MODELS, zoo_model


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """``module`` is in eval mode and holds ``weights``, which are its own if there is no file."""

    module: nn.Module
    weights: WeightSource
    example_inputs: tuple[Tensor, ...] | None
    """Known for models of the zoo."""
    reference: str
    description: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Files of a ``hf:`` folder that say what the model is and how it is fed, by name."""


@dataclass(frozen=True, slots=True)
class _Built:
    """A module before its weights; ``weights`` are those that come with it."""

    module: nn.Module
    weights: Path | None = None
    example_inputs: tuple[Tensor, ...] | None = None
    description: Mapping[str, bytes] = field(default_factory=dict[str, bytes])


def load_model(
    reference: str,
    *,
    args: tuple[Literal, ...] = (),
    weights: Path | None = None,
    root: Path,
    trusted: frozenset[str] = frozenset(),
) -> tuple[LoadedModel | None, list[Diagnostic]]:
    """``root`` is the recipe's folder: ``weights`` and modules are looked for from there."""
    built = _build(reference, args, project_around(root, trusted), empty=False)
    if isinstance(built, Diagnostic):
        return None, [built]
    module = built.module
    lazy = [name for name, value in module.named_parameters() if is_lazy(value)]
    if lazy:
        return None, [without_data(reference, lazy)]
    problems = _train_mode_problems(reference, module)
    file = built.weights if weights is None else root / weights
    source: WeightSource | Diagnostic = (
        MemoryWeights(_state(module)) if file is None else open_weights(file)
    )
    if isinstance(source, Diagnostic):
        return None, [*problems, source]
    problems += finite_problems(module) if file is None else load_into(module, source)
    if not has_errors(problems):
        meta = [name for name, value in _tensors(module) if value.is_meta]
        problems += [without_data(reference, meta)] if meta else []
    if has_errors(problems):
        return None, problems
    loaded = LoadedModel(module.eval(), source, built.example_inputs, reference, built.description)
    return loaded, problems


def load_empty_model(
    reference: str,
    *,
    args: tuple[Literal, ...] = (),
    root: Path,
    trusted: frozenset[str] = frozenset(),
) -> tuple[LoadedModel | None, list[Diagnostic]]:
    """The same on the meta device: shapes and types, for a look at what would be done."""
    built = _build(reference, args, project_around(root, trusted), empty=True)
    if isinstance(built, Diagnostic):
        return None, [built]
    module = built.module
    problems = _train_mode_problems(reference, module)
    lazy = [name for name, value in module.named_parameters() if is_lazy(value)]
    if lazy:
        return None, [without_data(reference, lazy)]
    empty(module)
    weights = MemoryWeights(_state(module))
    loaded = LoadedModel(module.eval(), weights, built.example_inputs, reference, built.description)
    return loaded, problems


def empty(module: nn.Module) -> None:
    """Replace every tensor by one on the meta device; what was tied stays tied."""
    made: dict[int, Tensor] = {}
    for inner in module.modules():
        tensors = [*inner.named_parameters(recurse=False), *inner.named_buffers(recurse=False)]
        for name, value in tensors:
            if value.is_meta:
                continue
            if id(value) not in made:
                bare = value.detach().to("meta")
                is_parameter = isinstance(value, nn.Parameter)
                made[id(value)] = nn.Parameter(bare, value.requires_grad) if is_parameter else bare
            setattr(inner, name, made[id(value)])


def unknown_zoo_model(name: str) -> Diagnostic:
    """QR520: nothing of that name ships with the project."""
    known = [model.name for model in MODELS]
    return Diagnostic(
        Code.MODEL_REFERENCE,
        f"there is no model `zoo:{name}`",
        subject=f"zoo:{name}",
        notes=(f"there are {', '.join(f'`zoo:{item}`' for item in known)}",),
        help=did_you_mean(name, known),
    )


def no_arguments(reference: str) -> Diagnostic:
    """QR520: a model of the zoo, or of a checkpoint, is as it is."""
    return Diagnostic(
        Code.MODEL_REFERENCE,
        f"`{reference}` takes no arguments",
        subject=reference,
        help="remove `args`",
    )


def not_a_module(reference: str, returned: object) -> Diagnostic:
    """QR521: the factory returned something else."""
    if returned is None:
        kind, way_out = "`None`", "is a `return` missing?"
    elif isinstance(returned, type):
        kind, way_out = f"the class `{returned.__name__}`", "return an instance of it"
    else:
        kind, way_out = f"a `{type(returned).__name__}`", "return the module itself"
    return Diagnostic(
        Code.MODEL_FACTORY,
        f"`{reference}` returned {kind}, not a `torch.nn.Module`",
        subject=reference,
        help=way_out,
    )


def without_data(reference: str, names: list[str]) -> Diagnostic:
    """QR521: lazy parameters, or tensors on the meta device that no weight file fills."""
    shown = ", ".join(f"`{name}`" for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return Diagnostic(
        Code.MODEL_FACTORY,
        f"`{reference}` returned tensors without data: {shown}{more}",
        subject=reference,
        help="build it outside of `torch.device('meta')` or name its `weights`; "
        "a lazy module needs one forward in the factory",
    )


def train_mode(reference: str, modules: list[str]) -> Diagnostic:
    """QR705: dropout and batch norm would act as in training."""
    inner = "" if "" in modules else f" in `{modules[0]}`"
    return Diagnostic(
        Code.TRAIN_MODE,
        f"`{reference}` returned a model in train mode{inner}; eval mode is used",
        subject=reference,
        help="call `.eval()` in the factory",
    )


def _build(
    reference: str, args: tuple[Literal, ...], project: Project, *, empty: bool
) -> _Built | Diagnostic:
    """``empty``: without weights as far as that can be; the rest is taken away by ``empty``."""
    match parse_reference(reference, MODEL):
        case ZooReference(name):
            return _build_from_zoo(name, args)
        case HuggingFaceReference(directory):
            if args:
                return no_arguments(reference)
            return _build_pretrained(project.directory / directory, project, empty=empty)
        case CallableReference() as function:
            module = _call_empty(function, args, project) if empty else None
            if module is None:
                module = call_factory(function, args, MODEL, project)
            if isinstance(module, nn.Module):
                return _Built(module)
            if isinstance(module, Diagnostic):
                return module
            return not_a_module(reference, module)
        case SafetensorsReference() | TextReference() | ImagesReference():
            raise AssertionError("parse_reference refuses data where a model is needed")
        case Diagnostic() as problem:
            return problem


def _call_empty(
    function: CallableReference, args: tuple[Literal, ...], project: Project
) -> nn.Module | None:
    """What the factory makes where tensors have no values; ``None`` if it needs some."""
    imported = import_function(function, MODEL, project)  # its constants shall be real ones
    if isinstance(imported, Diagnostic):
        return None
    with _without_values():
        module = call_factory(function, args, MODEL, project)
    return module if isinstance(module, nn.Module) else None


@contextmanager
def _without_values() -> Generator[None]:
    """New tensors are on the meta device; copying values into one does nothing, without a word."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _build_pretrained(directory: Path, project: Project, *, empty: bool) -> _Built | Diagnostic:
    found = build_pretrained(directory, project, empty=empty)
    if isinstance(found, Diagnostic):
        return found
    return _Built(found.module, None, found.example_inputs, found.description)


def _build_from_zoo(name: str, args: tuple[Literal, ...]) -> _Built | Diagnostic:
    model = zoo_model(name)
    if model is None:
        return unknown_zoo_model(name)
    if args:
        return no_arguments(f"zoo:{name}")
    return _Built(model.build().eval(), model.weights, model.example_inputs())


def _train_mode_problems(reference: str, module: nn.Module) -> list[Diagnostic]:
    training = [name for name, inner in module.named_modules() if inner.training]
    return [train_mode(reference, training)] if training else []


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Shares memory with the module; extra state that is no tensor is not a weight."""
    state = module.state_dict()
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}

"""From a model reference to a module that is ready to be captured."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from qcompile.data.import_factory import Literal, call_factory
from qcompile.data.project import Project, project_around
from qcompile.data.purpose import MODEL
from qcompile.data.reference import (
    CallableReference,
    SafetensorsReference,
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


@dataclass(frozen=True, slots=True)
class _Built:
    """A module before its weights; ``weights`` are those that come with it."""

    module: nn.Module
    weights: Path | None = None
    example_inputs: tuple[Tensor, ...] | None = None


def load_model(
    reference: str,
    *,
    args: tuple[Literal, ...] = (),
    weights: Path | None = None,
    root: Path,
    trusted: frozenset[str] = frozenset(),
) -> tuple[LoadedModel | None, list[Diagnostic]]:
    """``root`` is the recipe's folder: ``weights`` and modules are looked for from there."""
    built = _build(reference, args, project_around(root, trusted))
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
    return LoadedModel(module.eval(), source, built.example_inputs, reference), problems


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


def no_arguments(name: str) -> Diagnostic:
    """QR520: a model of the zoo is as its checkpoint is."""
    return Diagnostic(
        Code.MODEL_REFERENCE,
        f"`zoo:{name}` takes no arguments",
        subject=f"zoo:{name}",
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


def _build(reference: str, args: tuple[Literal, ...], project: Project) -> _Built | Diagnostic:
    match parse_reference(reference, MODEL):
        case ZooReference(name):
            return _build_from_zoo(name, args)
        case CallableReference() as function:
            module = call_factory(function, args, MODEL, project)
            if isinstance(module, nn.Module):
                return _Built(module)
            if isinstance(module, Diagnostic):
                return module
            return not_a_module(reference, module)
        case SafetensorsReference():
            raise AssertionError("parse_reference refuses data where a model is needed")
        case Diagnostic() as problem:
            return problem


def _build_from_zoo(name: str, args: tuple[Literal, ...]) -> _Built | Diagnostic:
    model = zoo_model(name)
    if model is None:
        return unknown_zoo_model(name)
    if args:
        return no_arguments(name)
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

"""Capture a model: run it once on example inputs and keep the graph of what it did."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import Parameter, signature
from typing import cast

import torch
from torch import fx, nn

from qcompile.capture.captured import Captured, FreeAxes
from qcompile.capture.kept_state import kept_state
from qcompile.capture.nesting import has_tensor
from qcompile.capture.operations import eliminate_dead_code
from qcompile.capture.paths import is_safe_path
from qcompile.capture.recorder import Recorder, UntraceableError
from qcompile.capture.specialisation import Specialisation, specialised
from qcompile.capture.tensors import is_kept
from qcompile.capture.user_frame import code_at, line_of_error
from qcompile.capture.value_reads import ValueRead
from qcompile.compat.module_calls import intercepted_calls
from qcompile.compat.symbolic_shapes import SymbolicShapes
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, has_errors
from qcompile.diagnostics.failure import CompileError


def trace(
    model: nn.Module,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    *,
    dynamic: FreeAxes | None = None,
) -> Captured:
    """Capture ``model`` as it behaves in evaluation.

    ``dynamic`` names the free axes of an input (``"mask"``; ``"pair.0"`` for a tensor inside a
    tuple). By default axis 0 of every tensor is free, and axis 1 of integer inputs of two axes
    (token ids and their masks). Raises ``CompileError`` (QR508) when the model cannot be captured.
    """
    diagnostics = [train_mode(model)] if any(m.training for m in model.modules()) else []
    model.eval()
    device = _device(model)
    run = partial(_run, model, args, kwargs, dynamic or {})
    best, why = run(SymbolicShapes(device)), None
    if best.error is not None and device is None:
        best, why = _with_values(run, best)
    if best.error is not None:
        raise CompileError([*diagnostics, not_traceable(best.error, best.recorder.trail.failed_in)])
    found = (*([] if why is None else [why]), *best.recorder.trail.specialisations)
    diagnostics.extend(specialised(item) for item in found)
    diagnostics += _unusable_paths(best.recorder.graph)
    if has_errors(diagnostics):
        raise CompileError(diagnostics)
    method = "fake" if best.sizes is not None else "real"
    module = _graph_module(model, best.recorder)
    if best.sizes is None:
        return Captured(module, method, found, tuple(diagnostics))
    free = _free_axes(best.sizes)
    return Captured(
        module,
        method,
        found,
        tuple(diagnostics),
        free,
        partial(best.sizes.problem, best.recorder.conditions),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """One call of the model, as far as it went."""

    recorder: Recorder
    sizes: SymbolicShapes | None
    error: Exception | None


def _with_values(run: Callable[..., _Run], failed: _Run) -> tuple[_Run, Specialisation | None]:
    """Run on the example itself; then, if the model asked for values, without them once more.

    The second run gives the model the answers of the first, so that sizes stay free.
    """
    real = run(None)
    if real.error is not None or failed.error is None:
        return real, None
    if real.recorder.reads.made:
        general = run(SymbolicShapes(), answers=real.recorder.reads.made)
        if general.error is None:
            return general, None
    reason = f"{type(failed.error).__name__}: {failed.error}"
    path = failed.recorder.trail.failed_in or ""
    where = line_of_error(failed.error.__traceback__)
    return real, Specialisation(path, "every shape", where, reason)


def _run(
    model: nn.Module,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    dynamic: FreeAxes,
    sizes: SymbolicShapes | None,
    answers: Sequence[ValueRead] = (),
) -> _Run:
    recorder = Recorder(model, sizes, answers)
    try:
        with kept_state(model):
            _record(recorder, model, args, kwargs, dynamic, sizes)
    except Exception as error:  # whatever the model's own code raises
        return _Run(recorder, sizes, error)
    return _Run(recorder, sizes, None)


def _record(
    recorder: Recorder,
    model: nn.Module,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    dynamic: FreeAxes,
    sizes: SymbolicShapes | None,
) -> None:
    bound = signature(model.forward).bind(*args, **kwargs)
    for name, parameter in bound.signature.parameters.items():
        if name not in bound.arguments:
            continue
        value = cast("object", bound.arguments[name])
        match parameter.kind:
            case Parameter.VAR_KEYWORD:
                given = cast("dict[str, object]", value).items()
                bound.arguments[name] = {
                    key: _input(recorder, key, item, dynamic, sizes) for key, item in given
                }
            case Parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(
                    _input(recorder, f"{name}_{index}", item, dynamic, sizes)
                    for index, item in enumerate(cast("tuple[object, ...]", value))
                )
            case _:
                bound.arguments[name] = _input(recorder, name, value, dynamic, sizes)
    with ExitStack() as scope:
        scope.enter_context(torch.no_grad())
        scope.enter_context(_without_fused_attention())
        if sizes is not None:
            scope.enter_context(sizes.active(recorder.decided))
        scope.enter_context(intercepted_calls(recorder.call_module))
        scope.enter_context(recorder)
        result = cast("object", model(*bound.args, **bound.kwargs))
        recorder.output(result)


def _input(
    recorder: Recorder,
    name: str,
    value: object,
    dynamic: FreeAxes,
    sizes: SymbolicShapes | None,
) -> object:
    """Declare an input of the graph if it holds tensors; anything else is compiled in."""
    if not has_tensor(value):
        recorder.compiled_in(name, value)
        return value
    example = value if sizes is None else _fake(value, name, dynamic, sizes)
    recorder.placeholder(name, example)
    return example


def _fake(value: object, name: str, dynamic: FreeAxes, sizes: SymbolicShapes) -> object:
    match value:
        case torch.Tensor():
            return sizes.fake(value, name, dynamic.get(name, _usual_axes(value)))
        case Mapping():
            entries = cast("Mapping[str, object]", value).items()
            return {key: _fake(item, f"{name}.{key}", dynamic, sizes) for key, item in entries}
        case tuple() | list():
            items = cast("Sequence[object]", value)
            made = [_fake(item, f"{name}.{at}", dynamic, sizes) for at, item in enumerate(items)]
            return made if isinstance(value, list) else tuple(made)
        case _:
            return value


def _free_axes(sizes: SymbolicShapes) -> FreeAxes:
    found: dict[str, tuple[int, ...]] = {}
    for dimension in sizes.free():
        found[dimension.name] = (*found.get(dimension.name, ()), dimension.axis)
    return found


def _usual_axes(tensor: torch.Tensor) -> tuple[int, ...]:
    is_token_matrix = tensor.dim() == 2 and not tensor.is_floating_point()
    return (0, 1) if is_token_matrix else tuple(range(min(tensor.dim(), 1)))


def _device(model: nn.Module) -> torch.device | None:
    """``meta`` for a model whose weights exist in shape only: its inputs must be there as well."""
    tensors = [*model.parameters()] or [*model.buffers()]
    is_empty = bool(tensors) and all(tensor.is_meta for tensor in tensors)
    return torch.device("meta") if is_empty else None


@contextmanager
def _without_fused_attention() -> Generator[None]:
    """``nn.TransformerEncoderLayer`` would otherwise run as one operation that hides its layers."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _graph_module(model: nn.Module, recorder: Recorder) -> fx.GraphModule:
    """A module of its own that holds the model's leaves and tensors under their paths."""
    module = fx.GraphModule(nn.Module(), fx.Graph(), class_name=type(model).__name__)
    nodes = list(recorder.graph.nodes)
    for path in dict.fromkeys(str(node.target) for node in nodes if node.op == "call_module"):
        module.add_submodule(path, model.get_submodule(path))
    for path in dict.fromkeys(str(node.target) for node in nodes if node.op == "get_attr"):
        _install(module, path, model, recorder.constants.get(path))
    module.graph = recorder.graph
    eliminate_dead_code(module)
    module.graph.lint()
    module.recompile()
    return module.eval()


def _unusable_paths(graph: fx.Graph) -> list[Diagnostic]:
    named = [str(node.target) for node in graph.nodes if node.op in {"call_module", "get_attr"}]
    return [unusable_path(path) for path in dict.fromkeys(named) if not is_safe_path(path)]


def _install(
    module: fx.GraphModule, path: str, model: nn.Module, constant: torch.Tensor | None
) -> None:
    if constant is not None:
        module.register_buffer(path, constant.detach(), persistent=False)  # no file has it
        return
    owner_path, _, name = path.rpartition(".")
    source = model.get_submodule(owner_path)
    tensor = cast("torch.Tensor", getattr(source, name))
    owner = _owner(module, owner_path)
    if hasattr(owner, name):  # a leaf brought it along
        return
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(name, tensor)
    else:
        owner.register_buffer(name, tensor, persistent=is_kept(source, name))


def _owner(module: fx.GraphModule, path: str) -> nn.Module:
    current: nn.Module = module
    for name in path.split(".") if path else ():
        child = getattr(current, name, None)
        if child is None:
            child = nn.Module()
            current.add_module(name, child)
        current = cast("nn.Module", child)
    return current


# ---- diagnostics ------------------------------------------------------------------------------


def train_mode(model: nn.Module) -> Diagnostic:
    """QR705: the model was handed over in train mode."""
    return Diagnostic(
        code=Code.TRAIN_MODE,
        message=f"`{type(model).__name__}` was in train mode and has been set to eval mode",
        subject=type(model).__name__,
        help="call `model.eval()` before you hand it over",
    )


def unusable_path(path: str) -> Diagnostic:
    """QR508: a name that the code of a graph cannot say, or that is one of its own attributes."""
    shown = path if path.isprintable() else repr(path)[1:-1]
    return Diagnostic(
        code=Code.NOT_TRACEABLE,
        message=f"no graph can hold a module or tensor named `{shown}`",
        subject=shown,
        help="rename it: without quotation marks, backslashes and control characters, no keyword "
        "of Python, and not as an attribute of `torch.fx.GraphModule` such as `graph` or `meta`",
    )


def not_traceable(error: Exception, path: str | None = None) -> Diagnostic:
    """QR508: the model's own code does not run under the tracer; ``path``: in which module."""
    where = line_of_error(error.__traceback__)
    running = path and f"while `{path}` was running"
    reason = (
        str(error) if isinstance(error, UntraceableError) else f"{type(error).__name__}: {error}"
    )
    return Diagnostic(
        code=Code.NOT_TRACEABLE,
        message="the model cannot be captured as a graph",
        subject=where or path or "",
        notes=tuple(filter(None, (code_at(where), running, reason))),
        help="check that the model runs on these example inputs; say what it does with operations "
        "of torch (`torch.where` for a branch on values), or move it out of `forward`",
    )

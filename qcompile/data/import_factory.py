"""Import ``pkg.mod:callable`` and call it, if it is the user's own code or a trusted package.

No module is imported before its file was found and allowed; this holds for every package on the
way. Once allowed, code may import whatever it likes: it is code.
"""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TypeAlias, cast

from qcompile.data.project import Project, on_path, own_modules
from qcompile.data.purpose import Purpose
from qcompile.data.reference import CallableReference
from qcompile.data.user_code import Raised, raised, run_user_code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.suggest import did_you_mean

Literal: TypeAlias = "bool | int | float | str | tuple[Literal, ...] | None"
UserFunction: TypeAlias = Callable[..., object]


def call_factory(
    reference: CallableReference, args: tuple[Literal, ...], purpose: Purpose, project: Project
) -> object | Diagnostic:
    """What the factory returned, not looked at yet."""
    with own_modules(project):
        function = _import_function(reference, purpose, project)
        if isinstance(function, Diagnostic):
            return function
        result = run_user_code(lambda: function(*args), project)
    return raised(str(reference), result, purpose) if isinstance(result, Raised) else result


def import_function(
    reference: CallableReference, purpose: Purpose, project: Project
) -> UserFunction | Diagnostic:
    with own_modules(project):
        return _import_function(reference, purpose, project)


def not_found(missing: str, siblings: list[str], purpose: Purpose, project: Project) -> Diagnostic:
    """QR520, QR710 or QR713: there is no module of that name."""
    parent, _, name = missing.rpartition(".")
    guess = did_you_mean(name, siblings)
    if guess is None and name == "py":
        guess = f"write the module as `{parent}`, without its suffix"
    places = ", ".join(project.search_path)
    return Diagnostic(
        purpose.reference,
        f"module `{missing}` is not found",
        subject=missing,
        notes=() if parent else (f"looked in {places} and among the installed packages",),
        help=guess,
    )


def not_trusted(module: str, origin: str | None, purpose: Purpose, project: Project) -> Diagnostic:
    """QR520, QR710 or QR713: the module is neither in the project nor allowed by name."""
    top = module.partition(".")[0]
    where = f"it is {origin}" if origin else "it is part of Python itself"
    return Diagnostic(
        purpose.reference,
        f"module `{module}` is outside the project and not trusted",
        subject=module,
        notes=(where, f"the project is {project.root}"),
        help=f"name a function of your own, or allow the package with `--trust {top}`",
    )


def no_function(reference: CallableReference, module: ModuleType, purpose: Purpose) -> Diagnostic:
    """QR520, QR710 or QR713: the module has no such name."""
    return Diagnostic(
        purpose.reference,
        f"module `{reference.module}` has no `{reference.attribute}`",
        subject=str(reference),
        help=did_you_mean(reference.attribute, vars(module)),
    )


def not_callable(reference: CallableReference, found: object, purpose: Purpose) -> Diagnostic:
    """QR520, QR710 or QR713: the name is a value."""
    return Diagnostic(
        purpose.reference,
        f"`{reference}` is a `{type(found).__name__}`, not a function",
        subject=str(reference),
        help="name a function that returns it",
    )


def _import_function(
    reference: CallableReference, purpose: Purpose, project: Project
) -> UserFunction | Diagnostic:
    module = _import_module(reference, purpose, project)
    if isinstance(module, Diagnostic):
        return module
    found = run_user_code(lambda: _attribute(module, reference.attribute), project)
    if isinstance(found, Raised):
        return raised(str(reference), found, purpose)
    if not found:
        return no_function(reference, module, purpose)
    if not callable(found[0]):
        return not_callable(reference, found[0], purpose)
    return found[0]


def _attribute(module: ModuleType, name: str) -> tuple[object, ...]:
    """The attribute in a tuple, or an empty tuple; a module may define ``__getattr__``."""
    return (cast(object, getattr(module, name)),) if hasattr(module, name) else ()


def _import_module(
    reference: CallableReference, purpose: Purpose, project: Project
) -> ModuleType | Diagnostic:
    """Import the packages on the way one by one, each checked before it runs."""
    importlib.invalidate_caches()
    parent: ModuleType | None = None
    parts = reference.module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        problem = _import_problem(name, parent, purpose, project)
        if problem is not None:
            return problem
        module = run_user_code(lambda name=name: importlib.import_module(name), project)
        if isinstance(module, Raised):
            return raised(name, module, purpose)
        parent = module
    assert parent is not None
    return parent


def _import_problem(
    name: str, parent: ModuleType | None, purpose: Purpose, project: Project
) -> Diagnostic | None:
    if parent is not None and not hasattr(parent, "__path__"):
        return not_found(name, [], purpose, project)
    with on_path(project):
        spec = _spec(name)
    if spec is None:
        return not_found(name, _siblings(parent, project), purpose, project)
    if not _is_trusted(spec, project):
        return not_trusted(name, None if _is_python(name) else spec.origin, purpose, project)
    return None


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ValueError, ImportError):  # `__main__` has no spec
        return None


def _is_trusted(spec: ModuleSpec, project: Project) -> bool:
    if spec.name.partition(".")[0] in project.trusted:
        return True
    if _is_python(spec.name):
        return False
    if spec.has_location and spec.origin:
        return project.owns(Path(spec.origin))
    places = spec.submodule_search_locations or []
    return bool(places) and all(project.owns(Path(place)) for place in places)


def _is_python(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def _siblings(parent: ModuleType | None, project: Project) -> list[str]:
    """Names of the modules beside the one that is missing."""
    path = project.search_path if parent is None else cast("list[str]", parent.__path__)
    return [module.name for module in pkgutil.iter_modules(path)]

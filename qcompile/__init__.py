"""Quantization as policy: a recipe becomes a checked plan and a quantized ``GraphModule``.

The public names are resolved on first use, so that ``import qcompile`` loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qcompile.diagnostics.diagnostic import Diagnostic
    from qcompile.diagnostics.failure import CompileError
    from qcompile.driver.bind import Bound, bind
    from qcompile.driver.evaluate import evaluate
    from qcompile.driver.export import Export, export
    from qcompile.driver.front import load_recipe
    from qcompile.driver.load import load
    from qcompile.driver.measure import Evaluation
    from qcompile.driver.plan import plan
    from qcompile.driver.run import run
    from qcompile.policy.core import Plan
    from qcompile.policy.recipe import Recipe

__version__ = "0.1.0"

__all__ = [
    "Bound",
    "CompileError",
    "Diagnostic",
    "Evaluation",
    "Export",
    "Plan",
    "Recipe",
    "__version__",
    "bind",
    "evaluate",
    "export",
    "load",
    "load_recipe",
    "plan",
    "run",
]

_HOMES = {
    "Bound": "qcompile.driver.bind",
    "CompileError": "qcompile.diagnostics.failure",
    "Diagnostic": "qcompile.diagnostics.diagnostic",
    "Evaluation": "qcompile.driver.measure",
    "Export": "qcompile.driver.export",
    "Plan": "qcompile.policy.core",
    "Recipe": "qcompile.policy.recipe",
    "bind": "qcompile.driver.bind",
    "evaluate": "qcompile.driver.evaluate",
    "export": "qcompile.driver.export",
    "load": "qcompile.driver.load",
    "load_recipe": "qcompile.driver.front",
    "plan": "qcompile.driver.plan",
    "run": "qcompile.driver.run",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: any public object
    if name not in _HOMES:
        raise AttributeError(f"module 'qcompile' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__

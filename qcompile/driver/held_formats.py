"""`plan --for`: a plan, and what its run may fall back to, held to formats of other programs."""

from collections.abc import Sequence

from qcompile.diagnostics.diagnostic import Diagnostic, has_errors
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.export import known
from qcompile.driver.plan import Planned, fall_back
from qcompile.interop.export import check_export
from qcompile.policy.fallback import fallbacks, of_fallback


def hold_to_formats(planned: Planned, formats: Sequence[str]) -> list[Diagnostic]:
    """Warnings; ``CompileError`` with all that keeps it from being exported to ``formats``."""
    found = _found(planned, formats)
    for scheme in fallbacks(planned.bound.recipe):
        others = _found(fall_back(planned, scheme), formats)
        found += [of_fallback(one, scheme) for one in others if one not in found]
    if has_errors(found):
        raise CompileError(found)
    return found


def _found(planned: Planned, formats: Sequence[str]) -> list[Diagnostic]:
    """In the order of ``formats``."""
    made = (planned.plan.core, planned.bound.graph, planned.bound.seen.loaded.description)
    return [problem for name in formats for problem in check_export(*made, known(name))]

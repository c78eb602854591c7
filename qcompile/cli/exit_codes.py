"""What an exit status means; scripts and CI rely on these numbers."""

from collections.abc import Iterable
from enum import IntEnum

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic


class ExitCode(IntEnum):
    OK = 0
    PROBLEMS = 1
    """Diagnostics of severity error, or a failed expectation."""
    USAGE = 2
    CHANGES = 3
    """Only with ``--exit-code``: there is something to do."""
    REQUIREMENT_FAILED = 4
    """The artifact is written, but does not hold what the plan promised."""
    RUN_FAILED = 5
    """The run stopped; its state is kept and can be resumed."""
    LOCKED = 6
    STATE_UNUSABLE = 7
    """The saved state is damaged or belongs to another run; nothing was changed."""
    BUG = 70
    STOPPED = 75
    """Stopped on request at a safe point; can be resumed."""
    INTERRUPTED = 130


_SPECIAL = {
    Code.RUN_LOCKED: ExitCode.LOCKED,
    Code.CORRUPT_RUN_STATE: ExitCode.STATE_UNUSABLE,
    Code.NON_FINITE_BLOCK: ExitCode.RUN_FAILED,
    Code.WRITE_FAILED: ExitCode.RUN_FAILED,
    Code.PLAN_NOT_MET: ExitCode.REQUIREMENT_FAILED,
    Code.REQUIREMENT_FAILED: ExitCode.REQUIREMENT_FAILED,
}


def exit_code(diagnostics: Iterable[Diagnostic]) -> ExitCode:
    """The most specific status that the errors among ``diagnostics`` ask for."""
    codes = [_SPECIAL.get(d.code, ExitCode.PROBLEMS) for d in diagnostics if d.is_error]
    return max(codes, default=ExitCode.OK)

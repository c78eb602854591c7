"""What of the example was compiled into a captured graph."""

from dataclasses import dataclass

from qcompile.capture.user_frame import code_at
from qcompile.diagnostics.codes import Code, Severity
from qcompile.diagnostics.diagnostic import Diagnostic


@dataclass(frozen=True, slots=True)
class Specialisation:
    """Something of the example that was compiled in; other inputs may need it to hold."""

    path: str
    """Module that was running; empty for the root."""
    what: str
    where: str | None = None
    """``file:line``, where known."""
    why: str = ""
    """What went wrong with a more general capture, if that was tried."""
    above_one: bool = False
    """Holds for every size above one: only an input with an axis of one may be another case."""


def specialised(item: Specialisation) -> Diagnostic:
    """QR531: the graph holds only for inputs that agree with the example in something."""
    running = item.path and f"while `{item.path}` was running"
    return Diagnostic(
        code=Code.SPECIALISED,
        message=f"the graph is specialised to {item.what}",
        subject=item.where or item.path,
        notes=tuple(filter(None, (code_at(item.where), running, item.why))),
        help="give an example input that is typical in this respect, or take the decision "
        "out of the model's `forward`",
        severity_override=Severity.INFO if item.above_one else None,
    )

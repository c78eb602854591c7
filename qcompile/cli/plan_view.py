"""A plan as text: blocks, layers, bytes, work, and the rule behind each decision."""

from collections.abc import Sequence

from qcompile.cli.forecast_view import forecast_lines
from qcompile.policy.core import Plan
from qcompile.report.plan_rows import HEADINGS, RIGHT_ALIGNED, rows, summary, title


def plan_text(plan: Plan, *, full: bool = False) -> str:
    """The whole plan; blocks equal to the one before are folded unless ``full``."""
    found = list(rows(plan, full=full))
    widths = [max(len(row[i]) for row in [HEADINGS, *found]) for i in range(len(HEADINGS))]
    rule = "  " + "-" * (sum(widths) + 2 * (len(widths) - 1))
    kind = "preview" if plan.core.is_preview else "plan"
    lines = [f"qcompile {kind}  {title(plan.core)}", "", _line(HEADINGS, widths)]
    lines.extend(_line(row, widths) for row in found)
    lines.extend([rule, *(f"  {line}" for line in summary(plan))])
    if plan.beside.forecast is not None:
        lines += ["", *forecast_lines(plan.beside.forecast, full=full), ""]
    lines.append(f"  {kind} {plan.core_sha256[:12]}")
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if i in RIGHT_ALIGNED else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return ("  " + "  ".join(padded)).rstrip()

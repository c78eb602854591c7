"""A plan as text: blocks, layers, bytes, work, and the rule behind each decision."""

from qcompile.cli.forecast_view import forecast_lines
from qcompile.cli.text_table import INDENT, text_table
from qcompile.policy.core import Plan
from qcompile.report.plan_rows import HEADINGS, RIGHT_ALIGNED, rows, summary, title


def plan_text(plan: Plan, *, full: bool = False) -> str:
    """The whole plan; blocks equal to the one before are folded unless ``full``."""
    table = text_table(HEADINGS, list(rows(plan, full=full)), RIGHT_ALIGNED)
    rule = INDENT + "-" * (max(map(len, table)) - len(INDENT))
    kind = "preview" if plan.core.is_preview else "plan"
    lines = [f"qcompile {kind}  {title(plan.core)}", "", *table]
    lines.extend([rule, *(f"  {line}" for line in summary(plan))])
    if plan.beside.forecast is not None:
        lines += ["", *forecast_lines(plan.beside.forecast, full=full), ""]
    lines.append(f"  {kind} {plan.core_sha256[:12]}")
    return "\n".join(lines) + "\n"

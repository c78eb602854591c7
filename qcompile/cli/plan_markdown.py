"""A plan as a comment on a pull request: the summary first."""

from qcompile.cli.forecast_view import forecast_summary
from qcompile.policy.core import Plan
from qcompile.report.markdown_table import LIMIT, cut, inline, table_head
from qcompile.report.plan_rows import HEADINGS, RIGHT_ALIGNED, rows, summary, title


def plan_markdown(plan: Plan, *, full: bool = False, limit: int = LIMIT) -> str:
    kind = "preview" if plan.core.is_preview else "plan"
    head = [f"### qcompile {kind}: {inline(title(plan.core))}", ""]
    head += [f"- {inline(line)}" for line in summary(plan)]
    if plan.beside.forecast is not None:
        head.append(f"- {inline(forecast_summary(plan.beside.forecast))}")
    return cut([*head, ""], table_head(HEADINGS, RIGHT_ALIGNED), rows(plan, full=full), limit)

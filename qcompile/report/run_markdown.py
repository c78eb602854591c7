"""A finished run as a comment on a pull request: the summary first."""

from qcompile.policy.core import Plan
from qcompile.report.layer_rows import HEADINGS, RIGHT_ALIGNED, layer_rows
from qcompile.report.markdown_table import LIMIT, cut, inline, table_head
from qcompile.report.plan_rows import summary, title
from qcompile.report.result_lines import result_lines
from qcompile.report.run_report import RunReport


def run_markdown(plan: Plan, report: RunReport, limit: int = LIMIT) -> str:
    head = [f"### qcompile run: {inline(title(plan.core))}", ""]
    head += [f"- {inline(line)}" for line in (*summary(plan, finished=True), *result_lines(report))]
    body = (row.cells for row in layer_rows(plan, report))
    return cut([*head, ""], table_head(HEADINGS, RIGHT_ALIGNED), body, limit)

"""How a finished run went, in a form that people read: on request, or beside its artifact."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.asked_exports import place_of
from qcompile.driver.load import plan_of, read_report
from qcompile.policy.core import Plan
from qcompile.report.run_markdown import run_markdown
from qcompile.report.run_page import run_page
from qcompile.report.run_report import RunReport
from qcompile.store.atomic import check_new_file, write_file
from qcompile.store.disk import Disk

FORMS: Mapping[str, tuple[str, Callable[[Plan, RunReport], str]]] = {
    "html": ("html", run_page),
    "markdown": ("md", run_markdown),
}
"""Ending of the file, and what makes its text; `json` is ``report.json`` in the artifact."""


def account_of(artifact: Path) -> tuple[Plan, RunReport]:
    """Raises ``CompileError`` as ``read_report`` and ``plan_of`` say."""
    plan = plan_of(artifact)
    report = read_report(artifact)
    if not isinstance(report, RunReport):
        raise CompileError(report)
    return plan, report


def save_account(text: str, path: Path, replaced: bool) -> None:
    """Raises ``CompileError``: QR901 for a name that is taken, QR905 for a disk that fails."""
    path = Path(os.path.abspath(path))
    problems = check_new_file(path, replaced) or write_file(Disk(), path, text.encode())
    if problems:
        raise CompileError(problems)


def places(artifact: Path, forms: Sequence[str]) -> dict[str, Path]:
    """``build/net`` in ``html`` and ``markdown`` is ``build/net.html`` and ``build/net.md``."""
    return {form: place_of(artifact, FORMS[form][0]) for form in forms}


def check_account_places(artifact: Path, forms: Sequence[str], replaced: bool) -> list[Diagnostic]:
    """QR901 for each name that is taken."""
    return [
        problem
        for place in places(artifact, forms).values()
        for problem in check_new_file(place, replaced)
    ]


def write_accounts(
    disk: Disk,
    artifact: Path,
    forms: Sequence[str],
    account: tuple[Plan, RunReport],
    replaced: bool,
) -> tuple[tuple[Path, ...], list[Diagnostic]]:
    """Each file whole or not at all; one that cannot be written keeps no other from being."""
    written: list[Path] = []
    problems: list[Diagnostic] = []
    for form, place in places(artifact, forms).items():
        text = FORMS[form][1](*account)
        found = check_new_file(place, replaced)
        found = found or write_file(disk, Path(os.path.abspath(place)), text.encode())
        if found:
            again = f"`qcompile report {artifact} --format {form} -o FILE` writes it again"
            problems += [replace(problem, help=again) for problem in found]
        else:
            written.append(place)
    return tuple(written), problems

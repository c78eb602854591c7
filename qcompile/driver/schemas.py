"""The published JSON schemas of plans and of what commands print; ``make schemas`` writes them."""

import json
import sys
from pathlib import Path

from pydantic import BaseModel, JsonValue

from qcompile.driver.select import Selected
from qcompile.driver.site_trace import SiteTrace
from qcompile.policy.core import Plan
from qcompile.policy.plan_diff import PlanDiff
from qcompile.report.run_report import RunReport

DOCUMENTS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("plan-1.0.json", "A saved plan; `plan` of `qcompile plan --json` and `show --json`.", Plan),
    ("trace-1.0.json", "`trace` of `qcompile plan --trace LAYER --json`.", SiteTrace),
    ("diff-1.0.json", "`diff` of `qcompile diff --json`.", PlanDiff),
    ("report-1.0.json", "`report.json` of an artifact; `report` of `show --json`.", RunReport),
    ("select-1.0.json", "What `qcompile select --json` prints beside its diagnostics.", Selected),
)
"""File name, description, and the value that is written."""


def schema_text(description: str, document: type[BaseModel]) -> str:
    schema: dict[str, JsonValue] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **document.model_json_schema(mode="serialization"),
        "description": description,
    }
    return json.dumps(_open(schema), indent=2, ensure_ascii=False) + "\n"


def _open(schema: JsonValue) -> JsonValue:
    """Without the ban on further fields: a higher minor version adds some, and readers skip them.

    We ourselves refuse them, as what we cannot execute.
    """
    match schema:
        case dict():
            kept = {k: v for k, v in schema.items() if (k, v) != ("additionalProperties", False)}
            return {key: _open(value) for key, value in kept.items()}
        case list():
            return [_open(item) for item in schema]
        case _:
            return schema


def write_schemas(folder: Path) -> None:
    for name, description, document in DOCUMENTS:
        (folder / name).write_text(schema_text(description, document), encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))

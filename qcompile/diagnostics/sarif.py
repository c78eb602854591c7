"""Diagnostics as SARIF 2.1.0 (OASIS), which code hosts and editors read."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import TypeAlias
from urllib.parse import quote

from qcompile.diagnostics.codes import Code, Severity
from qcompile.diagnostics.diagnostic import Diagnostic, Fix, Label
from qcompile.diagnostics.explain import first_sentence, page
from qcompile.diagnostics.findings import Findings, repository_path
from qcompile.diagnostics.source import Span

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
FINGERPRINT = "primaryLocationLineHash"
"""The only one that GitHub compares to tell an old alert from a new one."""

Json: TypeAlias = dict[str, "JsonValue"]
JsonValue: TypeAlias = str | int | Json | Sequence["JsonValue"]

_LEVELS = {
    Severity.ERROR: "error",
    Severity.WARNING: "warning",
    Severity.INFO: "note",
}


def render_sarif(findings: Sequence[Findings], version: str) -> str:
    """One run of the tool ``version`` over all files."""
    codes = sorted({d.code for found in findings for d in found.diagnostics}, key=str)
    index = {code: place for place, code in enumerate(codes)}
    driver: Json = {
        "name": "qcompile",
        "semanticVersion": version,
        "rules": [_rule(code) for code in codes],
    }
    run: Json = {
        "tool": {"driver": driver},
        # our columns count characters, whatever their width in UTF-16
        "columnKind": "unicodeCodePoints",
        "results": _results(findings, index),
    }
    document: Json = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2)


def _rule(code: Code) -> Json:
    text = page(code)
    return {
        "id": code.number,
        "name": code.slug.title().replace("-", ""),
        "shortDescription": {"text": first_sentence(text)},
        "help": {"text": first_sentence(text), "markdown": text},
        "defaultConfiguration": {"level": _LEVELS[code.severity]},
    }


def _results(findings: Iterable[Findings], index: dict[Code, int]) -> list[Json]:
    seen: Counter[str] = Counter()
    results: list[Json] = []
    for found in findings:
        for item in found.diagnostics:
            fingerprint = _fingerprint(item)
            seen[fingerprint] += 1
            results.append(
                {
                    "ruleId": item.code.number,
                    "ruleIndex": index[item.code],
                    "level": _LEVELS[item.severity],
                    "message": {"text": _message(item)},
                    "locations": [_location(item, found.file)],
                    "partialFingerprints": {FINGERPRINT: f"{fingerprint}:{seen[fingerprint]}"},
                    **_related(item.secondary),
                    **_fixes(item.fixes),
                }
            )
    return results


def _fingerprint(item: Diagnostic) -> str:
    """Of the code and the line's text without white space: it survives lines that move."""
    if item.primary is None:
        about = f"{item.subject} {item.message}"
    else:
        span = item.primary.span
        about = re.sub(r"\s", "", span.source.line(span.location.line))
    return sha256(f"{item.code.number} {about}".encode(errors="replace")).hexdigest()[:16]


def _message(item: Diagnostic) -> str:
    subject = [f"at {item.subject}"] if item.subject and item.primary is None else []
    help_ = [f"help: {item.help}"] if item.help else []
    return "\n".join([item.message, *subject, *item.notes, *help_])


def _location(item: Diagnostic, file: str) -> Json:
    if item.primary is not None:
        return _at(item.primary.span)
    return {"physicalLocation": {"artifactLocation": _artifact(file)}}


def _related(labels: Sequence[Label]) -> Json:
    if not labels:
        return {}
    return {
        "relatedLocations": [
            {"id": number, "message": {"text": label.text or "see also"}, **_at(label.span)}
            for number, label in enumerate(labels, start=1)
        ]
    }


def _fixes(fixes: Sequence[Fix]) -> Json:
    if not fixes:
        return {}
    return {
        "fixes": [
            {
                "description": {"text": f"{fix.applicability.value} fix"},
                "artifactChanges": [
                    {
                        "artifactLocation": _artifact(fix.span.source.name),
                        "replacements": [
                            {
                                "deletedRegion": _region(fix.span),
                                "insertedContent": {"text": fix.replacement},
                            }
                        ],
                    }
                ],
            }
            for fix in fixes
        ]
    }


def _at(span: Span) -> Json:
    return {
        "physicalLocation": {
            "artifactLocation": _artifact(span.source.name),
            "region": _region(span),
        }
    }


def _artifact(name: str) -> Json:
    path = repository_path(name)
    uri = quote(os.fsencode(path))
    if path.startswith("/"):
        return {"uri": f"file://{uri}"}
    return {"uri": uri, "uriBaseId": "%SRCROOT%"}


def _region(span: Span) -> Json:
    """Lines and columns from 1; the end column is the one after the last character."""
    line, column = span.location
    end_line, end_column = span.source.location(span.end)
    return {
        "startLine": line,
        "startColumn": column,
        "endLine": end_line,
        "endColumn": end_column,
    }

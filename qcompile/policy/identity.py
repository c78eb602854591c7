"""The identity of a plan, and what makes two plans differ."""

import json
from hashlib import sha256

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.policy.core import PlanCore

PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("recipe", ("recipe", "language")),
    ("parameters", ("params",)),
    ("model", ("model",)),
    ("graph", ("graph_sha256",)),
    ("weights", ("weights", "weights_sha256")),
    ("data", ("data",)),
    ("tool", ("tool",)),
    ("seed", ("seed",)),
)
"""What a person can change, and the fields of the core that show it."""

SETTINGS = "settings"
"""All other fields: they follow from the parts, unless someone edited the plan."""


def core_sha256(core: PlanCore) -> str:
    """Over the canonical JSON: sorted keys, no white space, UTF-8 as it is."""
    text = json.dumps(
        core.model_dump(mode="json"),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    return sha256(text.encode()).hexdigest()


def differences(saved: PlanCore, fresh: PlanCore) -> list[str]:
    """Names of the parts that changed; ``settings`` only where no other part explains it."""
    named = [
        part
        for part, fields in PARTS
        if any(getattr(saved, name) != getattr(fresh, name) for name in fields)
    ]
    if not named and saved != fresh:
        return [SETTINGS]
    return named


def is_a_preview(plan: str) -> Diagnostic:
    """QR720."""
    return Diagnostic(
        Code.PREVIEW,
        "a preview cannot be run: no weights and no data were looked at",
        subject=plan,
        help="make the plan again without `--preview`",
    )


def stale_plan(plan: str, changed: list[str]) -> Diagnostic:
    """QR708. ``plan`` is the file; ``changed`` comes from ``differences``."""
    match changed:
        case [one]:
            what = one
        case [*most, last]:
            what = f"{', '.join(most)} and {last}"
        case _:
            what = "something"
    return Diagnostic(
        Code.STALE_PLAN,
        f"plan is stale: {what} changed since it was made",
        subject=plan,
        help="run `qcompile plan` again, and look at what it would do now",
    )

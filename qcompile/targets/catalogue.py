"""Targets by name: those that ship with the program, and the files of users."""

import json
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.targets.names import BUILTIN, SUFFIX, unknown_target
from qcompile.targets.target import TARGET_FORMAT_VERSION, Target

MAX_BYTES = 1 << 20


def find_target(name: str, root: Path = Path()) -> Target | Diagnostic:
    """Give the target called ``name``, or described by the file ``name`` (``*.json``) in ``root``.

    QR201: there is no such target; QR540: the file describes none.
    """
    if not name.endswith(SUFFIX):
        if name not in BUILTIN:
            return unknown_target(name)
        data = (files("qcompile.targets") / "builtin" / f"{name}{SUFFIX}").read_bytes()
        return Target.model_validate_json(data)
    try:
        path = root / name
        if path.stat().st_size > MAX_BYTES:
            return not_a_target(name, f"is larger than {MAX_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        return not_a_target(name, (error.strerror or str(error)).lower())
    return _read(name, data)


def _read(name: str, data: bytes) -> Target | Diagnostic:
    try:
        raw: object = json.loads(data)
        found = Target.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        return not_a_target(name, f"{place}: {first['msg'].lower()}")
    except (ValueError, RecursionError):
        return not_a_target(name, "is not JSON")
    if found.format_version.partition(".")[0] != TARGET_FORMAT_VERSION.partition(".")[0]:
        return not_a_target(name, f"has format version {found.format_version}")
    for number, row in enumerate(found.support):
        if (row.outcome == "kernel") != (row.kernel is not None):
            return not_a_target(name, f"support.{number}: `kernel` goes with the outcome `kernel`")
    return found


def not_a_target(name: str, why: str) -> Diagnostic:
    """QR540."""
    return Diagnostic(
        Code.TARGET_FILE,
        f"the file `{name}` describes no target: {why}",
        subject=name,
        help="the format is the schema `target-1.0.json`; `docs/targets.md` has an example",
    )

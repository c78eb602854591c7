"""A diff of plans as text and as markdown: what changes, by which rule, and what it costs."""

import json
from collections.abc import Iterable

from pydantic import JsonValue

from qcompile.diagnostics.quantities import human_bytes, several
from qcompile.policy.plan_diff import PlanDiff, SettingChange, TensorChange
from qcompile.policy.scheme import Mse, QuantSlot
from qcompile.report.markdown_table import cut, inline, table_head
from qcompile.report.plan_rows import observer_text, slot_text

SHOWN_ALIKE = 3
"""Layers that are listed of a longer row of equal changes."""
LONGEST_VALUE = 60
HEADINGS = ("", "tensor", "before", "after", "bytes", "decided by")


def diff_text(diff: PlanDiff, *, full: bool) -> str:
    if diff.is_empty:
        return "no changes\n"
    lines = [headline(diff)]
    rows = list(_rows(diff, full=full))
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(len(HEADINGS))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells.insert(3, "->" if row[2] else "  ")
        lines.append(f" {' '.join(cells)}".rstrip())
    lines += [f" {line}" for line in _others(diff)]
    return "\n".join(lines) + "\n"


def diff_markdown(diff: PlanDiff, *, full: bool, limit: int) -> str:
    head = [f"### qcompile diff: {inline(diff.before)} -> {inline(diff.after)}", ""]
    if diff.is_empty:
        return "\n".join([*head, "no changes"]) + "\n"
    head += [headline(diff), "", *(f"- {inline(line)}" for line in _others(diff)), ""]
    return cut(head, table_head(HEADINGS), _rows(diff, full=full), limit)


def headline(diff: PlanDiff) -> str:
    breaking = "yes" if diff.breaking else "no"
    return (
        f"{several(len(diff.tensors), 'tensor')} and "
        f"{several(len(diff.settings), 'setting')} change, "
        f"size {human_bytes(diff.bytes_before)} -> {human_bytes(diff.bytes_after)}, "
        f"breaking: {breaking}"
    )


def _rows(diff: PlanDiff, *, full: bool) -> Iterable[tuple[str, ...]]:
    """Neighbours that change alike are folded unless ``full``."""
    groups: list[list[TensorChange]] = []
    for change in diff.tensors:
        if groups and _what(groups[-1][0]) == _what(change):
            groups[-1].append(change)
        else:
            groups.append([change])
    for group in groups:
        shown = group if full or len(group) <= SHOWN_ALIKE + 1 else group[:SHOWN_ALIKE]
        yield from map(_row, shown)
        if len(shown) < len(group):
            left = f"... {len(group) - len(shown)} more like these (--full shows all)"
            yield ("", left, "", "", "", "")


def _what(change: TensorChange) -> tuple[object, ...]:
    return (change.slot, change.before, change.after, change.decided_by)


def _row(change: TensorChange) -> tuple[str, ...]:
    sizes = (change.bytes_before, change.bytes_after)
    weight = change.slot == "weight" and None not in sizes
    return (
        _sign(change) + ("!" if change.breaking else ""),
        f"{change.site} {change.slot}",
        _spec(change.before),
        _spec(change.after),
        " -> ".join(human_bytes(size or 0) for size in sizes) if weight else "",
        f"{change.decided_by} {change.decided_by.text}",
    )


def _sign(change: TensorChange) -> str:
    if change.before is None:
        return "+"
    return "-" if change.after is None else "~"


def _spec(spec: QuantSlot | None) -> str:
    if spec is None:
        return "float"
    is_told = spec.observer == Mse() or spec.run_time_share != 1
    return slot_text(spec) + ("" if is_told else f" {observer_text(spec.observer)}")


def _others(diff: PlanDiff) -> Iterable[str]:
    yield from (_setting(change) for change in diff.settings)
    for rule in diff.newly_unmatched:
        yield f"! {rule} selects nothing now: {rule.text}"
    for rule in diff.newly_matched:
        yield f"+ {rule} selects something again: {rule.text}"


def _setting(change: SettingChange) -> str:
    mark = "~!" if change.breaking else "~"
    return f"{mark} {change.name}: {_value(change.before)} -> {_value(change.after)}"


def _value(value: JsonValue) -> str:
    match value:
        case None:
            return "none"
        case str():
            text = value
        case _:
            text = json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."

"""Means over seeds, model by model and scheme by scheme, the least divergence first. No torch."""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import cast

from tests.bench.cells import Document, Json

FIGURES = ("accuracy", "agreement", "kl", "rel_error", "cpu_seconds")
HEADER = (
    "| model | scheme | preset | seeds | KL, mean | +- | accuracy | +- | agreement | block error "
    "| cpu s | learned and kept |",
    "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
)


def means(rows: Sequence[Document]) -> list[dict[str, Json]]:
    """One entry for each model, scheme and preset; ``stdev_*`` are 0 where there is one seed."""
    groups: dict[tuple[str, str, str], list[Document]] = {}
    for row in rows:
        names = cast("tuple[str, str, str]", tuple(row[n] for n in ("model", "scheme", "preset")))
        groups.setdefault(names, []).append(row)
    found = [_mean(names, group) for names, group in groups.items()]
    return sorted(found, key=lambda one: (one["model"], one["scheme"], one["kl"]))  # pyright: ignore[reportCallIssue, reportArgumentType]


def as_markdown(rows: Sequence[Document]) -> str:
    """The least divergence of each model and scheme in bold."""
    lines = list(HEADER)
    before: tuple[Json, Json] | None = None
    for entry in means(rows):
        case = (entry["model"], entry["scheme"])
        lines.append(_line(entry, is_best=case != before))
        before = case
    return "\n".join(lines)


def _mean(names: tuple[str, str, str], group: Sequence[Document]) -> dict[str, Json]:
    model, scheme, preset = names
    entry: dict[str, Json] = {
        "model": model,
        "scheme": scheme,
        "preset": preset,
        "seeds": sorted(cast("int", row["seed"]) for row in group),
    }
    for name in FIGURES:
        values = [cast("float", row[name]) for row in group]
        entry[name] = mean(values)
        entry[f"stdev_{name}"] = stdev(values) if len(values) > 1 else 0.0
    return {**entry, **_guard([one for row in group for one in _stretches(row)])}


def _stretches(row: Document) -> list[dict[str, Json]]:
    return cast("list[dict[str, Json]]", row["stretches"])


def _guard(stretches: Sequence[dict[str, Json]]) -> dict[str, Json]:
    """How often what was learned was kept, and what that did to the held-out error on the mean."""
    kept = [one for one in stretches if one["kept"] == "learned"]
    ratios = [cast("float", one["learned"]) / cast("float", one["start"]) for one in kept]
    change = sum(ratio - 1 for ratio in ratios) / len(stretches) if stretches else None
    return {"stretches": len(stretches), "stretches_kept": len(kept), "held_out_change": change}


def _line(entry: dict[str, Json], *, is_best: bool) -> str:
    kl = f"{entry['kl']:.4f}"
    cells = (
        entry["model"],
        entry["scheme"],
        entry["preset"],
        len(cast("list[int]", entry["seeds"])),
        f"**{kl}**" if is_best else kl,
        f"{entry['stdev_kl']:.4f}",
        *(f"{100 * cast('float', entry[n]):.2f}" for n in ("accuracy", "stdev_accuracy")),
        f"{100 * cast('float', entry['agreement']):.2f}",
        f"{entry['rel_error']:.4f}",
        f"{entry['cpu_seconds']:.0f}",
        f"{entry['stretches_kept']} of {entry['stretches']}, {entry['held_out_change']:+.1%}"
        if entry["stretches"]
        else "-",
    )
    return f"| {' | '.join(map(str, cells))} |"

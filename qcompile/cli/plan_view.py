"""A plan as text: blocks, layers, bytes, and the rule behind each decision."""

from collections import Counter
from collections.abc import Iterable, Sequence

from qcompile.policy.core import Plan, PlanCore, SitePlan, TensorPlan, UnitPlan
from qcompile.policy.graph_facts import GraphFacts
from qcompile.policy.resolution import Decision
from qcompile.policy.scheme import QuantSlot

HEADINGS = ("block / layer", "scheme", "weight", "activation", "bytes", "decided by")
RIGHT_ALIGNED = {4}


def plan_text(plan: Plan, *, full: bool = False) -> str:
    """The whole plan; blocks equal to the one before are folded unless ``full``."""
    core = plan.core
    rows = list(_rows(core, full=full))
    widths = [max(len(row[i]) for row in [HEADINGS, *rows]) for i in range(len(HEADINGS))]
    rule = "  " + "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [_title(core), "", _line(HEADINGS, widths)]
    lines.extend(_line(row, widths) for row in rows)
    lines.extend([rule, *(f"  {line}" for line in _summary(core))])
    if plan.beside.graph is not None:
        lines.append(f"  {facts_line(plan.beside.graph)}")
    lines.append(f"  plan {plan.core_sha256[:12]}")
    return "\n".join(lines) + "\n"


def trace_text(decision: Decision) -> str:
    """Every rule that selected the site, in order; those with a say in the end are marked."""
    site = decision.site
    lines = [f"{site.key}   {site.kind.value}, {site.op}"]
    for step in decision.trace:
        mark = "*" if step.won else " "
        lines.append(f"  {mark} {step.rule.reference!s:<32} {step.rule.text}")
    if not decision.trace:
        lines.append("    no rule selects it")
    slots = [f"{name} {slot_text(spec)}" for name, spec in decision.quantized]
    outcome = decision.scheme or ("skip" if decision.is_skipped else "untouched")
    lines.append(f"  = {outcome}: {', '.join(slots) or 'float'}")
    return "\n".join(lines) + "\n"


def facts_line(graph: GraphFacts) -> str:
    """What was proved: ``graph: 54 nodes, 9 scale classes, 20 fusions, sums within 24 bits``."""
    signs = [one for one in graph.ranges if one.low is not None and one.low >= 0]
    parts = [
        f"{graph.nodes} nodes",
        f"{len(graph.scale_classes)} scale classes",
        f"{len(graph.fusions)} fusions",
        f"{len(graph.shared_weights)} shared weights" if graph.shared_weights else "",
        f"{len(signs)} operands never negative" if signs else "",
        f"{len(graph.islands)} float islands" if graph.islands else "",
        f"{len(graph.dead)} dead nodes" if graph.dead else "",
    ]
    if graph.accumulators:
        parts.append(f"sums within {max(one.bits for one in graph.accumulators)} bits")
    return f"graph: {', '.join(filter(None, parts))}"


def human_bytes(count: int) -> str:
    """Decimal units, three digits: ``812 B``, ``1.09 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000 or (unit == "MB" and value < 1e6):
            return f"{count} B" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def slot_text(spec: QuantSlot) -> str:
    symmetry = "" if spec.symmetric else " asymmetric"
    dynamic = " dynamic" if spec.dynamic and spec.granularity.kind != "per_token" else ""
    return f"{spec.format}{symmetry} {spec.granularity}{dynamic}"


def _title(core: PlanCore) -> str:
    data = f", data {core.data.reference} {core.data.samples}" if core.data else ""
    return (
        f"qcompile plan  {core.recipe[0].name} -> {core.model}   "
        f"(graph {core.graph_sha256[:6]}, weights {core.weights_sha256[:6]}{data})"
    )


def _rows(core: PlanCore, *, full: bool) -> Iterable[tuple[str, ...]]:
    planned = {site.key: site for site in core.sites}
    previous: UnitPlan | None = None
    folded = 0
    for unit in core.units:
        alike = previous is not None and _signature(unit, planned) == _signature(previous, planned)
        if alike and not full and unit.sites:
            folded += 1
            continue
        if folded and previous is not None:
            yield (f"... {_blocks(folded)} like {previous.name} (--full shows all)", *[""] * 5)
        folded = 0
        previous = unit
        yield from _unit_rows(unit, planned)
    if folded and previous is not None:
        yield (f"... {_blocks(folded)} like {previous.name} (--full shows all)", *[""] * 5)


def _blocks(count: int) -> str:
    return f"{count} block{'s' if count > 1 else ''}"


def _unit_rows(unit: UnitPlan, planned: dict[str, SitePlan]) -> Iterable[tuple[str, ...]]:
    size = f"{human_bytes(unit.bytes_before)} -> {human_bytes(unit.bytes_after)}"
    sites = [planned[key] for key in unit.sites]
    if len(sites) == 1 and sites[0].key == unit.name:
        yield _site_row(sites[0], unit.name, size)
        return
    yield (unit.name, "", "", "", size, "")
    for site in sites:
        before = sum(t.bytes_before for t in site.tensors if t.slot == "weight")
        after = sum(t.bytes_after for t in site.tensors)
        inner = f"{human_bytes(before)} -> {human_bytes(after)}" if site.tensors else ""
        yield _site_row(site, "  " + site.key.removeprefix(f"{unit.name}."), inner)


def _site_row(site: SitePlan, shown: str, size: str) -> tuple[str, ...]:
    by_slot = {tensor.slot: slot_text(tensor.spec) for tensor in reversed(site.tensors)}
    patches = sorted({ref.line for t in site.tensors for ref in t.patched_by})
    decided = str(site.decided_by) + "".join(f", {line}" for line in patches)
    return (
        shown,
        site.scheme or "skip",
        by_slot.get("weight", "float"),
        by_slot.get("act", "float"),
        size,
        decided,
    )


def _signature(unit: UnitPlan, planned: dict[str, SitePlan]) -> tuple[object, ...]:
    parts: list[object] = [unit.is_block, unit.bytes_before, unit.bytes_after]
    for key in unit.sites:
        site = planned[key]
        parts.append(
            (key.removeprefix(unit.name), site.scheme, tuple(_spec(t) for t in site.tensors))
        )
    return tuple(parts)


def _spec(tensor: TensorPlan) -> tuple[object, ...]:
    return (tensor.slot, tensor.spec, tensor.shape)


def _summary(core: PlanCore) -> Iterable[str]:
    schemes = Counter(site.scheme or "skip" for site in core.sites)
    used = ", ".join(f"{count} x {name}" for name, count in sorted(schemes.items()))
    yield f"{len(core.units)} units, {len(core.sites)} planned sites: {used or 'all float'}"
    ratio = core.bytes_before / max(core.bytes_after, 1)
    bits = average_weight_bits([t for s in core.sites for t in s.tensors if t.slot == "weight"])
    yield (
        f"tensors {human_bytes(core.bytes_before)} -> {human_bytes(core.bytes_after)} "
        f"({ratio:.1f}x)"
        + (f"; quantized weights {bits[0]:.2f} bits, {bits[1]:.2f} with scales" if bits else "")
    )
    folds = [item for item in core.transforms if item.name == "fold_bn"]
    if folds:
        yield f"transforms: fold_bn into {len(folds)} layers"


def average_weight_bits(weights: Sequence[TensorPlan]) -> tuple[float, float] | None:
    """Mean bits of a quantized weight, without and with its scales and zero points."""
    counts = {t.storage: (_count(t.shape), t) for t in weights}
    total = sum(count for count, _ in counts.values())
    if not total:
        return None
    codes = sum(count * t.spec.bits for count, t in counts.values())
    disk = sum(8 * t.bytes_after for _, t in counts.values())
    return codes / total, disk / total


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if i in RIGHT_ALIGNED else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return ("  " + "  ".join(padded)).rstrip()

"""The rows of a plan and the lines that sum it up, before they are laid out."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod

from qcompile.diagnostics.quantities import duration, human_bytes, human_count, several
from qcompile.policy.core import (
    Beside,
    DataPlan,
    FallbackPlan,
    Plan,
    PlanCore,
    SiteCompute,
    SitePlan,
    TensorPlan,
    UnitPlan,
)
from qcompile.policy.graph_facts import GraphFacts
from qcompile.policy.scheme import Clip, Mse, Observer, Percentile, QuantSlot, SignedMse
from qcompile.report.choice_view import choice_line
from qcompile.targets.names import REFERENCE

HEADINGS = (
    "block / layer",
    "scheme",
    "weight",
    "activation",
    "bytes",
    "MACs",
    "bit ops",
    "decided by",
)
RIGHT_ALIGNED = {4, 5, 6}
EMPTY = ("",) * (len(HEADINGS) - 1)


def rows(plan: Plan, *, full: bool) -> Iterable[tuple[str, ...]]:
    """One for each unit and each planned site; equal neighbours are folded unless ``full``."""
    core = plan.core
    planned = {site.key: site for site in core.sites}
    work = {item.key: item for item in plan.beside.compute}
    previous: UnitPlan | None = None
    folded = 0
    for unit in core.units:
        alike = previous is not None and _signature(unit, planned) == _signature(previous, planned)
        if alike and not full and unit.sites:
            folded += 1
            continue
        if folded and previous is not None:
            yield _folded(folded, previous)
        folded = 0
        previous = unit
        yield from _unit_rows(unit, planned, work)
    if folded and previous is not None:
        yield _folded(folded, previous)


def title(core: PlanCore) -> str:
    weights = "preview" if core.weights_sha256 is None else f"weights {core.weights_sha256[:6]}"
    data = f", data {_samples(core.data)}" if core.data else ""
    return (
        f"{core.recipe[0].name} -> {core.model}   (graph {core.graph_sha256[:6]}, {weights}{data})"
    )


def _samples(data: DataPlan) -> str:
    parted = data.groups
    shown = f"{data.reference} {data.samples}"
    if data.flip is not None:
        shown += " and their mirror images"
    if parted is None:
        return shown
    judging = f"{parted.judging} with {several(parted.judging_samples, 'sample')}"
    return f"{shown} of {parted.count} groups, of which {judging} judge"


def summary(plan: Plan, *, finished: bool = False) -> Iterable[str]:
    """What is to be looked at after the run is told as long as it is not ``finished``."""
    core = plan.core
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
    yield from _instead_of_rules(plan)
    if plan.beside.compute:
        yield compute_line(plan.beside.compute)
    yield from _tunings(core)
    if plan.beside.graph is not None:
        yield facts_line(plan.beside.graph)
    yield from _transforms(core)
    refits = sum(len(site.refits) for site in core.sites)
    if refits:
        yield f"biases set anew with the codes: {several(refits, 'layer')}"
    norms = sum(len(unit.refits) for unit in core.units)
    if norms:
        yield f"gains and biases of norms learned with their blocks: {several(norms, 'tensor')}"
    if not finished:
        yield from _after_the_run(plan.beside)
    output = plan.beside.output
    if output.formats:
        yield f"exported beside the artifact: {', '.join(output.formats)}"
    if output.reports:
        yield f"reported beside the artifact: {', '.join(output.reports)}"
    if output.target != REFERENCE:
        yield f"loaded for {output.target} by default"


def _instead_of_rules(plan: Plan) -> Iterable[str]:
    """Where another than the policy has decided: a requirement that did not hold, or a budget."""
    if plan.core.fallback is not None:
        yield f"fallen back to {plan.core.fallback}: a requirement did not hold"
    elif plan.beside.choice is not None:
        yield choice_line(plan.beside.choice)


def _after_the_run(beside: Beside) -> Iterable[str]:
    instead = {one.requirement: one for one in beside.fallbacks}
    for text in beside.requirements:
        yield f"after the run: {text}" + (_instead(instead[text]) if text in instead else "")


def _instead(other: FallbackPlan) -> str:
    """`` (else: 22 layers in another way, 280.1 kB, 3 min with what was run before)``."""
    parts = [f"{several(other.layers, 'layer')} in another way", human_bytes(other.bytes_after)]
    if other.seconds is not None:
        parts.append(f"{duration(other.seconds)} with the run before it")
    return f" (else: {', '.join(parts)})"


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


def _transforms(core: PlanCore) -> Iterable[str]:
    """``transforms: fold_bn into 21 layers, rotate for 12 layers, smoothquant of 24 values``."""
    counts = Counter(
        (item.name, bool(item.sources), item.value is not None) for item in core.transforms
    )
    parts = [
        f"{name} of {several(count, 'value')}"
        if moves
        else f"{name} {'into' if folds else 'for'} {several(count, 'layer')}"
        for (name, folds, moves), count in counts.items()
    ]
    if parts:
        yield f"transforms: {', '.join(parts)}"


def _tunings(core: PlanCore) -> Iterable[str]:
    """One line each: what is tuned by which statement, where there is more than one."""
    if not core.tunes:
        return
    rest = sum(site.has_weight for site in core.sites)
    for tune in core.tunes:
        rest -= len(tune.sites)
        yield f"tune {tune.tuning.preset}: {_layers(tune.sites)}, {tune.decided_by}"
    if rest:
        yield f"tune {core.tuning.preset}: {several(rest, 'other layer')}"


def _layers(keys: Sequence[str], shown: int = 3) -> str:
    more = len(keys) - shown
    return ", ".join(keys[:shown]) + (f" and {more} more" if more > 0 else "")


def compute_line(work: Sequence[SiteCompute]) -> str:
    before, after = sum(one.bops_before for one in work), sum(one.bops_after for one in work)
    return (
        f"a sample of the example: {human_count(sum(one.macs for one in work))} MACs, "
        f"{human_count(before)} -> {human_count(after)} bit operations "
        f"({before / max(after, 1):.1f}x)"
    )


def average_weight_bits(weights: Sequence[TensorPlan]) -> tuple[float, float] | None:
    """Mean bits of a quantized weight, without and with its scales and zero points."""
    counts = {t.storage: (prod(t.shape), t) for t in weights}
    total = sum(count for count, _ in counts.values())
    if not total:
        return None
    codes = sum(count * t.spec.bits for count, t in counts.values())
    disk = sum(8 * t.bytes_after for _, t in counts.values())
    return codes / total, disk / total


def slot_text(spec: QuantSlot) -> str:
    symmetry = "" if spec.symmetric else " asymmetric"
    dynamic = " dynamic" if spec.dynamic and spec.granularity.kind != "per_token" else ""
    clipped = f" {observer_text(spec.observer)}" if spec.run_time_share != 1 else ""
    return f"{spec.format}{symmetry} {spec.granularity}{dynamic}{clipped}"


def operands_text(site: SitePlan, told: Callable[[TensorPlan], str]) -> str:
    """The first operand, and the others where they are something else."""
    first = next((told(one) for one in site.tensors if one.slot == "act"), "float")
    others = (told(one) for one in site.tensors if one.slot == "act2")
    return ", ".join(dict.fromkeys((first, *others)))


def observer_text(observer: Observer) -> str:
    match observer:
        case Clip(share=number) | Percentile(q=number):
            return f"{observer.kind}({number:g})"
        case Mse(p=p) | SignedMse(p=p) if p != Mse().p:
            return f"{observer.kind}(p={p:g})"
        case _:
            return observer.kind


def _folded(count: int, like: UnitPlan) -> tuple[str, ...]:
    return (f"... {several(count, 'block')} like {like.name} (--full shows all)", *EMPTY)


def _unit_rows(
    unit: UnitPlan, planned: Mapping[str, SitePlan], work: Mapping[str, SiteCompute]
) -> Iterable[tuple[str, ...]]:
    size = f"{human_bytes(unit.bytes_before)} -> {human_bytes(unit.bytes_after)}"
    sites = [planned[key] for key in unit.sites]
    if len(sites) == 1 and sites[0].key == unit.name:
        yield _site_row(sites[0], unit.name, size, work)
        return
    yield (unit.name, "", "", "", size, "", "", "")
    for site in sites:
        before = sum(t.bytes_before for t in site.tensors if t.slot == "weight")
        after = sum(t.bytes_after for t in site.tensors)
        inner = f"{human_bytes(before)} -> {human_bytes(after)}" if site.tensors else ""
        yield _site_row(site, "  " + site.key.removeprefix(f"{unit.name}."), inner, work)


def _site_row(
    site: SitePlan, shown: str, size: str, work: Mapping[str, SiteCompute]
) -> tuple[str, ...]:
    weight = next((_tensor_text(one) for one in site.tensors if one.slot == "weight"), "float")
    patches = sorted({ref.line for t in site.tensors for ref in t.patched_by})
    decided = str(site.decided_by) + "".join(f", {line}" for line in patches)
    done = work.get(site.key)
    return (
        shown,
        site.scheme or "skip",
        weight,
        operands_text(site, _tensor_text),
        size,
        "" if done is None else human_count(done.macs),
        "" if done is None else human_count(done.bops_after),
        decided,
    )


def _tensor_text(tensor: TensorPlan) -> str:
    return slot_text(tensor.spec) + (" shared" if tensor.shared_by is not None else "")


def _signature(unit: UnitPlan, planned: Mapping[str, SitePlan]) -> tuple[object, ...]:
    parts: list[object] = [unit.is_block, unit.bytes_before, unit.bytes_after]
    for key in unit.sites:
        site = planned[key]
        specs = tuple((t.slot, t.spec, t.shape, t.shared_by) for t in site.tensors)
        parts.append((key.removeprefix(unit.name), site.scheme, specs))
    return tuple(parts)

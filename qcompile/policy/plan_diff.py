"""What one plan does otherwise than another: by meaning, never by the text of a recipe."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from qcompile.policy.core import Frozen, PlanCore, RuleRef, TensorPlan
from qcompile.policy.scheme import QuantSlot

COMPARED_APART = frozenset(
    ("sites", "units", "recipe", "data", "weights_sha256", "bytes_before", "bytes_after")
)
"""Fields of the core that are not settings: a recipe may be laid out anew and mean the same."""
BREAKING_SETTINGS = frozenset(("model", "target"))


@dataclass(frozen=True, slots=True)
class Side:
    """A plan to compare, with what only its recipe knows. ``lost``: rules that select nothing."""

    name: str
    core: PlanCore
    data: Mapping[str, JsonValue]
    """What is asked of the calibration data; its hash where it was read."""
    lost: tuple[RuleRef, ...] = ()
    budget: tuple[str, ...] = ()
    """What chooses the schemes, where that is still to be done: rows and rules as they stand."""


class TensorChange(Frozen):
    """``None`` stands for a tensor that stays in float."""

    site: str
    slot: str
    before: QuantSlot | None
    after: QuantSlot | None
    bytes_before: int | None
    """On disk; ``None`` where that side says nothing of it."""
    bytes_after: int | None
    decided_by: RuleRef
    """The last line with a say, in the later plan if that says anything of the tensor."""
    breaking: bool


class SettingChange(Frozen):
    name: str
    before: JsonValue
    after: JsonValue
    breaking: bool


class PlanDiff(Frozen):
    """A change is *breaking* if accuracy may fall by it.

    That is: fewer bits, a tensor newly quantized, another model or target, a rule that no longer
    selects anything.
    """

    before: str
    after: str
    tensors: tuple[TensorChange, ...]
    settings: tuple[SettingChange, ...]
    newly_unmatched: tuple[RuleRef, ...]
    """Rules that select nothing now, and did select something or were not there."""
    newly_matched: tuple[RuleRef, ...]
    bytes_before: int
    """Of all tensors on disk."""
    bytes_after: int
    breaking: bool

    @property
    def is_empty(self) -> bool:
        return not (self.tensors or self.settings or self.newly_unmatched or self.newly_matched)


def plan_diff(before: Side, after: Side) -> PlanDiff:
    tensors = tuple(_tensors(before.core, after.core))
    settings = tuple(_settings(before, after))
    unmatched = tuple(_only_in(after.lost, before.lost))
    return PlanDiff(
        before=before.name,
        after=after.name,
        tensors=tensors,
        settings=settings,
        newly_unmatched=unmatched,
        newly_matched=tuple(_only_in(before.lost, after.lost)),
        bytes_before=before.core.bytes_after,
        bytes_after=after.core.bytes_after,
        breaking=bool(unmatched) or any(item.breaking for item in (*tensors, *settings)),
    )


def _only_in(rules: Iterable[RuleRef], others: Iterable[RuleRef]) -> Iterator[RuleRef]:
    """Compared by text: a rule may have moved."""
    known = {other.text for other in others}
    return (rule for rule in rules if rule.text not in known)


def _tensors(before: PlanCore, after: PlanCore) -> Iterator[TensorChange]:
    """In the order of the later graph; tensors that only the earlier plan quantizes come last."""
    old, new = _by_place(before), _by_place(after)
    for site, slot in dict.fromkeys((*new, *old)):
        a, b = old.get((site, slot)), new.get((site, slot))
        spec_a, spec_b = a.spec if a else None, b.spec if b else None
        said = b or a
        if spec_a == spec_b or said is None:
            continue
        yield TensorChange(
            site=site,
            slot=slot,
            before=spec_a,
            after=spec_b,
            bytes_before=a.bytes_after if a else b.bytes_before if b else None,
            bytes_after=b.bytes_after if b else a.bytes_before if a else None,
            decided_by=(said.decided_by, *said.patched_by)[-1],
            breaking=_is_breaking(spec_a, spec_b),
        )


def _by_place(core: PlanCore) -> dict[tuple[str, str], TensorPlan]:
    """A site with more than two operands has several ``act2``: each by its number."""
    found: dict[tuple[str, str], TensorPlan] = {}
    for site in core.sites:
        for tensor in site.tensors:
            name, number = str(tensor.slot), 2
            while (site.key, name) in found:
                name = f"{tensor.slot}#{number}"
                number += 1
            found[site.key, name] = tensor
    return found


def _is_breaking(before: QuantSlot | None, after: QuantSlot | None) -> bool:
    if after is None:
        return False
    return before is None or after.bits < before.bits


def _settings(before: Side, after: Side) -> Iterator[SettingChange]:
    old, new = _flat(before), _flat(after)
    hashed = not before.core.is_preview and not after.core.is_preview
    if before.budget and after.budget:
        old["budget"], new["budget"] = list[JsonValue](before.budget), list[JsonValue](after.budget)
    for name in dict.fromkeys((*old, *new)):
        if name.endswith("sha256") and name != "graph_sha256" and not hashed:
            continue  # a preview has read neither weights nor data
        if old.get(name) != new.get(name):
            yield SettingChange(
                name=name,
                before=old.get(name),
                after=new.get(name),
                breaking=name in BREAKING_SETTINGS,
            )


def _flat(side: Side) -> dict[str, JsonValue]:
    """Every setting by a name such as ``tuning.steps``."""
    document: dict[str, JsonValue] = json.loads(
        side.core.model_dump_json(exclude=set(COMPARED_APART))
    )
    found: dict[str, JsonValue] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": item for inner, item in value.items()}
        else:
            found[name] = value
    found["blocks"] = [unit.name for unit in side.core.units if unit.is_block]
    found["weights_sha256"] = side.core.weights_sha256
    return found | {f"data.{name}": value for name, value in side.data.items()}

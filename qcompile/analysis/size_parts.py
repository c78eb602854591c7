"""Whose bytes the artifact's are: rule by rule, and those that stay in float."""

from collections import defaultdict
from collections.abc import Sequence

from torch import fx

from qcompile.capture.tensors import owned_tensors
from qcompile.policy.core import SitePlan
from qcompile.policy.rule_ref import RuleRef
from qcompile.policy.size_part import SizePart


def size_parts(module: fx.GraphModule, planned: Sequence[SitePlan]) -> tuple[SizePart, ...]:
    """Their sum is that of ``forecast``; a tensor that several sites read counts once."""
    found: dict[RuleRef | None, dict[str, int]] = defaultdict(dict)
    packed: set[str] = set()
    for site in planned:
        for plan in site.tensors:
            name = plan.storage or f"{site.key}:{plan.slot}:{plan.operand}"
            if name not in packed and plan.bytes_after:
                found[plan.decided_by][name] = plan.bytes_after
            packed.add(name)
    for owned in owned_tensors(module):
        if owned.storage == owned.path and owned.path not in packed and owned.nbytes:
            found[None][owned.path] = owned.nbytes
    return tuple(
        SizePart(rule, tuple(sorted(tensors.items(), key=lambda item: -item[1])))
        for rule, tensors in found.items()
    )

"""Which samples judge, where samples come in groups: crops of a photograph, frames of a film.

What is fitted to one sample of a group fits the others too, so that a group that is on both sides
tells nothing about samples that are still to come.
"""

from collections.abc import Sequence

from torch import Tensor

from qcompile.data.batches import Batch, named_tensors
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.suggest import did_you_mean

JUDGING = 8
"""One sample in eight judges."""
MOST = 4
"""Groups that judge have one in four at most, unless all are larger."""


def by_group(groups: Sequence[int]) -> tuple[list[int], list[int]]:
    """Places that are fitted and places that judge, each in their order: no group is in both.

    Groups judge in the order of their first samples; where all are large, the smallest does. Two
    groups at least.
    """
    members: dict[int, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    judging: list[int] = []
    for places in members.values():
        is_enough = JUDGING * len(judging) >= len(groups)
        if not is_enough and MOST * (len(judging) + len(places)) <= len(groups):
            judging += places
    if not judging:
        judging = min(members.values(), key=len)
    judges = set(judging)
    return [place for place in range(len(groups)) if place not in judges], sorted(judging)


def groups_problem(
    groups: Tensor | None, name: str, reference: str, batch: Batch
) -> Diagnostic | None:
    """QR717: ``groups`` of ``calibrate`` does not say of which group a sample is."""
    way_out = "give one integer a sample, the same for all samples of a group"
    if groups is None:
        names = [key for key, _ in named_tensors(batch)] if isinstance(batch, dict) else []
        what = f"has no tensor `{name}`" if names else "has one tensor, which the model takes"
        return _unfit(reference, name, what, did_you_mean(name, names) or way_out)
    if groups.dim() != 1 or groups.is_floating_point() or groups.is_complex():
        kind = str(groups.dtype).removeprefix("torch.")
        return _unfit(reference, name, f"has {kind} {[*groups.shape]} in `{name}`", way_out)
    if groups.unique().numel() == 1:
        what = "has selected samples of one group only: none is left that judges"
        return _unfit(reference, name, what, "take more `samples`, or leave `groups` out")
    return None


def _unfit(reference: str, name: str, what: str, way_out: str) -> Diagnostic:
    return Diagnostic(Code.GROUPS, f"`{reference}` {what}", subject=name, help=way_out)

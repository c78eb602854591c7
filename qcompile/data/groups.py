"""Which samples judge, where samples come in groups: crops of a photograph, frames of a film.

What is fitted to one sample of a group fits the others too, so that a group that is on both sides
tells nothing about samples that are still to come.
"""

from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from qcompile.data.batches import Batch
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.suggest import did_you_mean

JUDGING = 8
"""One sample in eight judges."""
MOST = 4
"""Groups that judge have one in four at most, unless there are too few so small."""
FEWEST = 16
"""Where fewer than one in sixteen judge, what they say is chance."""
WAY_OUT = "give one integer a sample, the same for all samples of a group"


def by_group(groups: Sequence[int]) -> tuple[list[int], list[int]]:
    """Places that are fitted and places that judge, each in their order: no group is in both.

    Groups judge in the order of their first samples until they are an eighth: small ones, then the
    smallest of the others, as long as half is fitted. There are two groups at least.
    """
    sizes = Counter(groups)
    judging: set[int] = set()
    count = 0
    for most, order in ((len(groups) / MOST, list(sizes)), (len(groups) / 2, _by_size(sizes))):
        for group in order:
            is_enough = count * JUDGING >= len(groups)
            if not is_enough and group not in judging and count + sizes[group] <= most:
                judging.add(group)
                count += sizes[group]
    fitted = [place for place, group in enumerate(groups) if group not in judging]
    return fitted, [place for place, group in enumerate(groups) if group in judging]


def _by_size(sizes: Counter[int]) -> list[int]:
    return sorted(sizes, key=sizes.__getitem__)


def lacks_groups(batch: Batch, name: str, labels: str | None, reference: str) -> Diagnostic | None:
    """QR717: a batch has no tensor ``name`` beside those of the model and its labels."""
    match batch:
        case dict():
            if name not in batch:
                way_out = did_you_mean(name, batch) or WAY_OUT
                return _unfit(reference, name, f"has no tensor `{name}`", way_out)
            if not set(batch) - {name, labels}:
                return _unfit(reference, name, f"has nothing beside `{name}`", WAY_OUT)
        case tuple():
            needed = 2 if labels is None else 3
            if len(batch) < needed:
                what = f"has {len(batch)} tensors, of which none is left for `groups`"
                way_out = f"return {needed}: the last one says of which group a sample is"
                return _unfit(reference, name, what, way_out)
        case Tensor():
            return _unfit(reference, name, "has one tensor, which the model takes", WAY_OUT)
    return None


def unfit_groups(groups: Tensor, name: str, reference: str) -> Diagnostic | None:
    """QR717: numbers that do not say of which group a sample is, or leave too few that judge."""
    if groups.dim() != 1 or groups.is_floating_point() or groups.is_complex():
        kind = str(groups.dtype).removeprefix("torch.")
        return _unfit(reference, name, f"has {kind} {[*groups.shape]} in `{name}`", WAY_OUT)
    numbers: list[int] = groups.tolist()
    count = len(set(numbers))
    judging = len(by_group(numbers)[1]) if count > 1 else 0
    if judging * FEWEST >= len(numbers):
        return None
    largest = max(Counter(numbers).values())
    what = f"has {largest} of {len(numbers)} selected samples in one group: too few others judge"
    return _unfit(reference, name, what, "take samples of more groups, or leave `groups` out")


def _unfit(reference: str, name: str, what: str, way_out: str) -> Diagnostic:
    return Diagnostic(Code.GROUPS, f"`{reference}` {what}", subject=name, help=way_out)

"""What a budget chose from, as text."""

from collections.abc import Iterable

from qcompile.diagnostics.quantities import human_bytes, several
from qcompile.policy.choice import ChoicePlan, GroupPlan


def choice_line(choice: ChoicePlan) -> str:
    """``chosen for 20 layers: loss increase 0.00113, the least within the budget``."""
    layers = sum(len(group.sites) for group in choice.groups)
    made_small, beside = f"loss increase {choice.loss_increase:.3g}", ""
    least, bound = "the least", f"{choice.bound:.3g}"
    if choice.objective == "size":
        made_small, beside = human_bytes(choice.bytes_taken), f"; {made_small}"
        least, bound = "the fewest", human_bytes(int(choice.bound))
    proved = f"{least if choice.is_proved else f'at least {bound}'} within the budget"
    return (
        f"chosen for {several(layers, 'layer')}: {made_small}, {proved}{beside}"
        f" (measured one by one on {several(choice.samples, 'sample')})"
    )


def rung_lines(group: GroupPlan) -> Iterable[str]:
    """The candidates of one layer, or of all that stand on one rung."""
    others = f" together with {', '.join(group.sites[1:])}" if len(group.sites) > 1 else ""
    yield f"what the budget chooses from{others}: * taken"
    names = [rung.scheme for rung in group.rungs]
    sizes = [human_bytes(rung.bytes) for rung in group.rungs]
    widths = [max(map(len, column)) for column in (names, sizes)]
    for place, (rung, size) in enumerate(zip(group.rungs, sizes, strict=True)):
        mark = "*" if place == group.taken else " "
        yield (
            f"{mark} {rung.scheme:<{widths[0]}}  {size:>{widths[1]}}"
            f"  loss increase {rung.loss_increase:.3g}"
        )

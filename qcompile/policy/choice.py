"""What a budget has chosen, and from what."""

from typing import Literal

from qcompile.policy.document import Frozen
from qcompile.policy.rule_ref import RuleRef


class RungPlan(Frozen):
    scheme: str
    bytes: int
    """Of the sites' tensors on disk."""
    candidate: str
    """Hash of what was measured: of each site its tensors, and how they are rounded."""
    loss_increase: float
    """Measured with these sites alone quantized, in nats: the mean divergence of the network's
    output from the float model's."""


class GroupPlan(Frozen):
    """Sites that stand on one rung: one, or all that use one weight or run as one product."""

    sites: tuple[str, ...]
    """Keys."""
    decided_by: RuleRef
    rungs: tuple[RungPlan, ...]
    """From the fewest bits to the most."""
    taken: int
    """Place in ``rungs``."""

    @property
    def is_measured(self) -> bool:
        """The output tells its rungs apart; else it has the most bits that are left."""
        return any(rung.loss_increase for rung in self.rungs)


class ChoicePlan(Frozen):
    samples: int
    """Of the calibration data, with which losses were measured."""
    groups: tuple[GroupPlan, ...]
    objective: Literal["loss_increase", "size"] = "loss_increase"
    """What is made small."""
    loss_increase: float
    """Sum over all groups."""
    bound: float
    """No choice within the budget has less of the objective: of ``loss_increase``, or of
    ``bytes_taken``. Below what is taken where the search ended before that was proved."""

    @property
    def bytes_taken(self) -> int:
        """Of the groups that are measured."""
        return sum(group.rungs[group.taken].bytes for group in self.groups if group.is_measured)

    @property
    def is_proved(self) -> bool:
        made_small = self.bytes_taken if self.objective == "size" else self.loss_increase
        return self.bound >= made_small

"""What a saved plan has measured for `choose`, for another budget on the same model and data."""

from collections.abc import Mapping
from dataclasses import dataclass

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.policy.core import DataPlan, Plan
from qcompile.policy.identity import stale_plan


@dataclass(frozen=True, slots=True)
class Basis:
    """What every measurement depends on, beside its candidate."""

    tool: str
    graph: str
    weights: str
    data: DataPlan | None


@dataclass(frozen=True, slots=True)
class Saved:
    """A plan, and how a diagnostic calls it."""

    plan: Plan
    shown: str

    def losses(self, basis: Basis) -> Mapping[str, float]:
        """By candidate. Raises ``CompileError`` (QR708) where it was measured on something else."""
        choice, core = self.plan.beside.choice, self.plan.core
        if choice is None:
            raise CompileError([nothing_measured(self.shown)])
        mine = {
            "tool": core.tool,
            "graph": core.graph_sha256,
            "weights": core.weights_sha256,
            "data": core.data,
        }
        changed = [name for name, value in mine.items() if value != getattr(basis, name)]
        if changed:
            raise CompileError([stale_plan(self.shown, changed)])
        return {
            rung.candidate: rung.loss_increase for group in choice.groups for rung in group.rungs
        }


def nothing_measured(shown: str) -> Diagnostic:
    """QR708."""
    return Diagnostic(
        Code.STALE_PLAN,
        "the plan has measured nothing: its recipe left nothing to choose",
        subject=shown,
        help="name the plan of a recipe with `choose`, or leave `--measured` out",
    )


def not_needed(saved: Saved) -> Diagnostic:
    """QR604."""
    return Diagnostic(
        Code.CHOICE_WITHOUT_BUDGET,
        "nothing is chosen here for which anything could be measured",
        subject=saved.shown,
        help="leave `--measured` out; it is for recipes with `choose`, and not for a preview",
    )

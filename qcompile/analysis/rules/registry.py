"""The rules, in the order of report."""

from collections.abc import Callable, Iterator

from qcompile.analysis.context import Context
from qcompile.analysis.rules.channel_axis import channel_axis
from qcompile.analysis.rules.group_size import group_size
from qcompile.analysis.rules.no_weight import no_weight
from qcompile.analysis.rules.tied_weights import tied_weights
from qcompile.diagnostics.diagnostic import Diagnostic

Rule = Callable[[Context], Iterator[Diagnostic]]

RULES: tuple[Rule, ...] = (group_size, channel_axis, tied_weights, no_weight)


def run_rules(context: Context) -> list[Diagnostic]:
    return [diagnostic for rule in RULES for diagnostic in rule(context)]

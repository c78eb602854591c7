"""The rules, in the order of report."""

from collections.abc import Callable, Iterator

from qcompile.analysis.context import Context
from qcompile.analysis.rules.accumulator_overflow import accumulator_overflow
from qcompile.analysis.rules.channel_axis import channel_axis
from qcompile.analysis.rules.dangling_quantizer import dangling_quantizer
from qcompile.analysis.rules.float_island import float_island
from qcompile.analysis.rules.float_product import float_product
from qcompile.analysis.rules.folded_norm import folded_norm
from qcompile.analysis.rules.group_size import group_size
from qcompile.analysis.rules.no_keys import no_keys
from qcompile.analysis.rules.no_weight import no_weight
from qcompile.analysis.rules.scale_conflict import scale_conflict
from qcompile.analysis.rules.sensitive_layers import sensitive_layers
from qcompile.analysis.rules.split_projections import split_projections
from qcompile.analysis.rules.tied_weights import tied_weights
from qcompile.analysis.rules.unknown_operation import unknown_operation
from qcompile.analysis.rules.wasted_range import wasted_range
from qcompile.diagnostics.diagnostic import Diagnostic

Rule = Callable[[Context], Iterator[Diagnostic]]

RULES: tuple[Rule, ...] = (
    group_size,
    channel_axis,
    tied_weights,
    scale_conflict,
    accumulator_overflow,
    no_weight,
    no_keys,
    float_product,
    folded_norm,
    dangling_quantizer,
    float_island,
    wasted_range,
    sensitive_layers,
    split_projections,
    unknown_operation,
)


def run_rules(context: Context) -> list[Diagnostic]:
    return [diagnostic for rule in RULES for diagnostic in rule(context)]

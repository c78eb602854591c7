"""The ``tune`` statements of a recipe: one for all, and others for what they select."""

from collections.abc import Sequence

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.methods.tuning import Tuning
from qcompile.policy.attributes import given_twice
from qcompile.policy.expression import Checker
from qcompile.policy.lower_tune import Tuned, default_tuning, lower_tune
from qcompile.policy.recipe import Tune
from qcompile.policy.unavailable import not_available
from qcompile.syntax.nodes import Name, TuneBlock


def lower_tunes(
    nodes: Sequence[TuneBlock], checker: Checker, has_data: bool
) -> tuple[Tuned, tuple[Tune, ...]]:
    """The tuning of what no ``for`` selects, wherever it stands, then the others in order."""
    general: Tuned | None = None
    first: Span | None = None
    found: list[Tune] = []
    for node in nodes:
        tuned = lower_tune(node, checker)
        if not has_data and (tuned.tuning.learns or tuned.tuning.uses_moments):
            checker.report(nothing_to_learn_from(node.preset))
        if node.selector is None:
            if first is not None:
                checker.report(given_twice("tune", node.span, first))
            general, first = general or tuned, first or node.span
            continue
        selector = checker.selector(node.selector)
        for attr in node.attrs:
            if attr.name.text == "seed":
                way_out = "set the seed in `calibrate`, or in the `tune` without `for`"
                checker.report(not_available("a seed in `tune ... for`", attr.span, way_out))
        if selector is not None:
            found.append(Tune(tuned.tuning, tuned.spans, selector, node.span))
    general = general or Tuned(default_tuning(), {})
    _one_batch_size([general.tuning, *(item.tuning for item in found)], nodes, checker)
    return general, tuple(found)


def _one_batch_size(
    tunings: Sequence[Tuning], nodes: Sequence[TuneBlock], checker: Checker
) -> None:
    """A learning step takes one batch of the calibration data, which is cut once."""
    sizes = {tuning.batch for tuning in tunings if tuning.learns}
    attr = next((a for node in nodes for a in node.attrs if a.name.text == "batch"), None)
    if len(sizes) > 1 and attr is not None:
        way_out = "give all of them the same `batch`"
        what = "another `batch` in each `tune`"
        checker.report(not_available(what, attr.span, way_out))


def nothing_to_learn_from(preset: Name) -> Diagnostic:
    """QR211."""
    return Diagnostic(
        Code.MISSING_STATEMENT,
        f"`tune {preset.text}` looks at data and needs the statement `calibrate`",
        Label(preset.span),
        help='add `calibrate { data = "..." }`, or write `tune rtn`',
    )

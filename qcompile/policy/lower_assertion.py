"""``expect`` and ``prefer``, known when the plan is made, and ``require``, when the run is over."""

from collections.abc import Sequence
from typing import Literal

from qcompile.diagnostics.codes import Code, Severity
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.claim import AfterRun, Claim, Measure, Predicted, Resource, measures
from qcompile.policy.expression import Checker
from qcompile.policy.lower_ladder import scheme_key
from qcompile.policy.recipe import Assertion, Evaluation, Requirement
from qcompile.policy.type_errors import wrong_use
from qcompile.syntax import nodes

REQUIRE = "require"


def lower_assertions(found: Sequence[nodes.Assertion], checker: Checker) -> tuple[Assertion, ...]:
    lowered = [_assertion(node, checker) for node in found if node.kind.text != REQUIRE]
    return tuple(item for item in lowered if item is not None)


def lower_requirements(
    found: Sequence[nodes.Assertion], evaluations: Sequence[Evaluation] | None, checker: Checker
) -> tuple[Requirement, ...]:
    """``evaluations`` are ``None`` in a library, which is measured by whoever imports it."""
    lowered = [_requirement(node, checker) for node in found if node.kind.text == REQUIRE]
    requirements = tuple(item for item in lowered if item is not None)
    for item in requirements if evaluations is not None else ():
        for figure in _after_run(item.claim):
            wanted = missing_evaluation(figure.which, [one.metric for one in evaluations or ()])
            if wanted is not None:
                checker.report(nothing_measures(figure, wanted))
    return requirements


def missing_evaluation(figure: str, metrics: Sequence[str]) -> str | None:
    """The metric that ``evaluate`` would have to name, for ``figure`` to be measured."""
    match figure:
        case "accuracy_drop":
            return None if accuracy_metric(metrics) is not None else "top1"
        case "perplexity_ratio" | "perplexity":
            return None if "perplexity" in metrics else "perplexity"
        case "top1" | "top5":
            return None if figure in metrics else figure
        case _:  # compares with the float model on any data
            return None if metrics else figure


def accuracy_metric(metrics: Sequence[str]) -> str | None:
    """What ``accuracy_drop`` is the drop of: top-1, else top-5, else the user's first metric."""
    own = [metric for metric in metrics if ":" in metric]
    ranked = [metric for metric in ("top1", "top5") if metric in metrics]
    return next(iter([*ranked, *own]), None)


def _assertion(node: nodes.Assertion, checker: Checker) -> Assertion | None:
    claim = checker.claim(node.expr)
    if claim is None:
        return None
    for measure in measures(claim):
        problem = too_early(measure, node.kind.text)
        if problem is not None:
            checker.report(problem)
    kind: Literal["expect", "prefer"] = "expect" if node.kind.text == "expect" else "prefer"
    return Assertion(kind, claim, _reason(node), node.span)


def _requirement(node: nodes.Assertion, checker: Checker) -> Requirement | None:
    claim = checker.claim(node.expr)
    otherwise = None if node.otherwise is None else scheme_key(node.otherwise, checker)
    if claim is None:
        return None
    found = list(measures(claim))
    for measure in found:
        if isinstance(measure, Resource | Predicted):
            checker.report(limit_elsewhere(measure))
    if not any(isinstance(measure, AfterRun | Resource | Predicted) for measure in found):
        checker.report(known_earlier(node))
    return Requirement(claim, otherwise, _reason(node), node.span)


def _after_run(claim: Claim) -> list[AfterRun]:
    return [measure for measure in measures(claim) if isinstance(measure, AfterRun)]


def _reason(node: nodes.Assertion) -> str | None:
    return node.reason.value if node.reason else None


def too_early(measure: Measure, word: str) -> Diagnostic | None:
    """QR605: a figure that no plan has."""
    if isinstance(measure, Resource | Predicted):
        return limit_elsewhere(measure)
    if not isinstance(measure, AfterRun):
        return None
    return Diagnostic(
        Code.WRONG_TIME,
        f"`{measure.which}` is known only after the run",
        Label(measure.span, "measured on the quantized model"),
        help=f"write `{REQUIRE}` instead of `{word}`",
    )


def known_earlier(node: nodes.Assertion) -> Diagnostic:
    """QR605, a warning: nothing is gained by waiting."""
    return Diagnostic(
        Code.WRONG_TIME,
        f"`{REQUIRE}` asks only for what the plan knows",
        Label(node.expr.span),
        help="write `expect`, which fails before any work is done",
        severity_override=Severity.WARNING,
    )


def limit_elsewhere(measure: Resource | Predicted) -> Diagnostic:
    """QR401."""
    limited = "the run" if isinstance(measure, Resource) else "what `choose` costs"
    return wrong_use(
        f"`{measure.which}` is a limit on {limited}",
        measure.span,
        f"write it as a row of `budget {{ {measure.span.text} <= ... }}`",
    )


def nothing_measures(figure: AfterRun, metric: str) -> Diagnostic:
    """QR211."""
    return Diagnostic(
        Code.MISSING_STATEMENT,
        f"nothing measures `{figure.which}`",
        Label(figure.span, "needs the statement `evaluate`"),
        help=f'add `evaluate {metric} {{ data = "..." }}`',
    )

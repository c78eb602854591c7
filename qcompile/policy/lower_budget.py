"""The ``budget`` statement: limits on the artifact and on the run, and what to make small."""

from collections.abc import Mapping, Sequence

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label, has_errors
from qcompile.diagnostics.source import Span
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.policy.attributes import given_twice, listed
from qcompile.policy.choice_limits import choice_limits, limits_of
from qcompile.policy.claim import AfterRun, CompareFigures, Measure, measures
from qcompile.policy.expression import Checker
from qcompile.policy.lower_assertion import too_early
from qcompile.policy.recipe import Budget, ChooseScheme, Limit, Objective, Rule, on_one_line
from qcompile.policy.scheme import FloatSlot, Scheme
from qcompile.policy.type_errors import wrong_type, wrong_use
from qcompile.policy.unavailable import not_available
from qcompile.syntax import nodes
from qcompile.syntax.nodes import BudgetBlock, Ref

MINIMIZE = ("loss_increase", "size", "macs", "time", "ram")
MAXIMIZE = ("accuracy", "agreement")
SERVED = ("loss_increase", "size")


def lower_budget(node: BudgetBlock, checker: Checker) -> Budget:
    limits: list[Limit] = []
    seen: dict[str, Span] = {}
    objectives: list[Objective] = []
    for row in node.items:
        match row:
            case nodes.Limit():
                limit = _limit(row, seen, checker)
                limits += [] if limit is None else [limit]
            case nodes.Objective():
                objective = _objective(row, checker)
                if objectives:
                    again = given_twice("minimize or maximize", row.span, objectives[0].span)
                    checker.report(again)
                objectives += [] if objective is None else [objective]
    return Budget(tuple(limits), objectives[0] if objectives else None, node.span)


def _limit(row: nodes.Limit, seen: dict[str, Span], checker: Checker) -> Limit | None:
    claim = checker.claim(row.expr)
    if claim is None:
        return None
    found = list(measures(claim))
    if not found:
        wanted = "a limit such as `size <= 60MB` or `time <= 2h`"
        checker.report(wrong_type(wanted, "another statement", row.expr.span))
        return None
    for measure in found:
        _check_measure(measure, checker)
    limit = Limit(claim, row.span)
    is_plain = isinstance(claim, CompareFigures) and limits_of(limit)
    if limit.is_predicted and not is_plain:
        checker.report(not_alone(row))
        return None
    if len(found) == 1:  # two limits on one figure: one of them says nothing
        text = found[0].span.text
        if text in seen:
            checker.report(given_twice(text, row.span, seen[text]))
        seen.setdefault(text, row.span)
    return limit


def _check_measure(measure: Measure, checker: Checker) -> None:
    problem = too_early(measure, "a row of `budget`") if isinstance(measure, AfterRun) else None
    if problem is not None:
        checker.report(problem)


def _objective(row: nodes.Objective, checker: Checker) -> Objective | None:
    direction = "minimize" if row.direction.text == "minimize" else "maximize"
    known = MINIMIZE if direction == "minimize" else MAXIMIZE
    if not isinstance(row.expr, Ref):
        checker.report(wrong_type(f"one of {listed(known)}", "another expression", row.expr.span))
        return None
    if row.expr.text not in known:
        checker.report(unknown_objective(row.expr, direction, known))
        return None
    if row.expr.text not in SERVED:
        what = f"`{direction} {row.expr.text}`"
        way_out = f"write {listed(tuple(f'minimize {one}' for one in SERVED))}"
        checker.report(not_available(what, row.span, way_out))
    return Objective(direction, row.expr.text, row.span)


def check_choices(
    budget: Budget | None,
    rules: Sequence[Rule],
    schemes: Mapping[str, Scheme],
    checker: Checker,
) -> None:
    """QR604: something to choose from and something to choose by need one another."""
    choices = [rule for rule in rules if isinstance(rule.action, ChooseScheme)]
    if budget is None and choices:
        checker.report(nothing_to_choose_by(choices[0]))
    is_whole = not has_errors(checker.diagnostics)  # else a row may be missing
    if budget is not None and choices and is_whole:
        _check_limits(budget, choices, schemes, checker)
    if budget is not None and not choices:
        for row in (budget.objective, *(one for one in budget.limits if one.is_predicted)):
            if row is not None:
                checker.report(nothing_to_choose(row))


def _check_limits(
    budget: Budget, choices: Sequence[Rule], schemes: Mapping[str, Scheme], checker: Checker
) -> None:
    """What is made small must be worth something; of what is not available nothing is known."""
    if budget.objective is not None and budget.objective.figure not in SERVED:
        return
    limits = {limit.figure: limit for limit in choice_limits(budget)}
    if budget.goes_by_size:
        if "loss_increase" not in limits:
            checker.report(nothing_to_lose(budget, choices[0]))
    elif "size" not in limits and "avg_bits" not in limits:
        checker.report(nothing_to_save(budget, choices[0]))
    elif "size" not in limits:
        for rule in choices:
            if any(isinstance(schemes[name].weight, FloatSlot) for name in rule.schemes):
                checker.report(free_of_charge(rule, limits["avg_bits"].row))


def nothing_to_choose_by(rule: Rule) -> Diagnostic:
    """QR604."""
    return Diagnostic(
        Code.CHOICE_WITHOUT_BUDGET,
        "`choose` needs the statement `budget`",
        Label(rule.span, "nothing says which to choose"),
        help="add `budget { size <= 60MB; minimize loss_increase }`",
    )


def nothing_to_measure_with(rule: Rule) -> Diagnostic:
    """QR211."""
    return Diagnostic(
        Code.MISSING_STATEMENT,
        "`choose` measures what each scheme costs, and needs the statement `calibrate`",
        Label(rule.span),
        help='add `calibrate { data = "..." }`',
    )


def nothing_to_save(budget: Budget, rule: Rule) -> Diagnostic:
    """QR604."""
    return Diagnostic(
        Code.CHOICE_WITHOUT_BUDGET,
        "nothing that `choose` changes is limited: each layer would get the most bits",
        Label(budget.span, "no limit on bytes or bits"),
        (Label(rule.span, "what is to be chosen"),),
        help="add a row such as `size <= 60MB` or `avg_bits(weight) <= 4.5`, as it stands here or "
        "joined to others by `and`",
    )


def nothing_to_lose(budget: Budget, rule: Rule) -> Diagnostic:
    """QR604."""
    return Diagnostic(
        Code.CHOICE_WITHOUT_BUDGET,
        "nothing limits what `choose` costs: each layer would get the fewest bits",
        Label(budget.span, "no limit on the loss"),
        (Label(rule.span, "what is to be chosen"),),
        help="add a row such as `loss_increase <= 0.01`",
    )


def not_alone(row: nodes.Limit) -> Diagnostic:
    """QR401."""
    return wrong_use(
        "`loss_increase` is limited from above, in a row of its own",
        row.expr.span,
        "write `loss_increase <= 0.01`, and other limits in other rows",
    )


def free_of_charge(rule: Rule, row: Limit) -> Diagnostic:
    """QR604: mean bits are of quantized weights."""
    return Diagnostic(
        Code.CHOICE_WITHOUT_BUDGET,
        "a weight that stays in float costs nothing of `avg_bits(weight)`",
        Label(rule.span, "leaves weights in float"),
        (Label(row.span, "counts quantized weights alone"),),
        help="limit `size` instead",
    )


def nothing_to_choose(row: Objective | Limit) -> Diagnostic:
    """QR604."""
    return Diagnostic(
        Code.CHOICE_WITHOUT_BUDGET,
        f"`{on_one_line(row.span)}` has nothing to choose from",
        Label(row.span, "no rule says `choose`"),
        help="add a rule such as `choose w4a8, w8a8 for conv`, or leave the row out",
    )


def unknown_objective(ref: Ref, direction: str, known: Sequence[str]) -> Diagnostic:
    """QR201."""
    return Diagnostic(
        Code.UNKNOWN_NAME,
        f"unknown figure `{ref.text}` to {direction}",
        Label(ref.span),
        help=did_you_mean(ref.text, known) or f"{direction} one of {listed(known)}",
    )

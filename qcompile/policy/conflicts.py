"""Diagnostics of rules that get in each other's way on real sites."""

from collections.abc import Sequence

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.recipe import FallBack, Rule, SetField
from qcompile.policy.site import Site
from qcompile.policy.slot_rules import Objection
from qcompile.policy.unmatched import some_paths

MAX_LINES = 5


def final_violated(rule: Rule, final: Rule, sites: Sequence[Site]) -> Diagnostic:
    """QR304."""
    here, there = rule.span.location.line, final.span.location.line
    return Diagnostic(
        Code.FINAL_VIOLATED,
        f"line {here} changes what the `final` line {there} decided",
        Label(rule.span, "changes it"),
        (Label(final.span, "decided here for good"),),
        notes=some_paths(sites),
        help=_way_out(rule),
    )


def _way_out(rule: Rule) -> str:
    if isinstance(rule.action, FallBack):
        return "drop `final`, or name a scheme after `else` that can have this"
    return "drop `final`, or take these layers out with `except`"


def unreachable_rule(rule: Rule, sites: Sequence[Site], later: Sequence[Rule]) -> Diagnostic:
    """QR303."""
    what = "its only site is" if len(sites) == 1 else f"all {len(sites)} sites are"
    lines = ", ".join(str(other.span.location.line) for other in later[:MAX_LINES])
    plural = "line" if len(later) == 1 else "lines"
    more = ", ..." if len(later) > MAX_LINES else ""
    return Diagnostic(
        Code.UNREACHABLE_RULE,
        f"unreachable rule: {what} decided by later {plural} {lines}{more}",
        Label(rule.span, "decides nothing"),
        tuple(Label(other.span, "decides instead") for other in later[:MAX_LINES]),
        help="delete it, or move it down",
    )


def partly_shadowed(
    rule: Rule, met: int, lost: Sequence[Site], later: Rule, wider: int
) -> Diagnostic:
    """QR305."""
    return Diagnostic(
        Code.PARTLY_SHADOWED,
        f"partly shadowed: {len(lost)} of {met} sites are decided by the wider line "
        f"{later.span.location.line} below",
        Label(rule.span, f"selects {met}"),
        (Label(later.span, f"selects {wider}, and comes last"),),
        notes=some_paths(lost),
        help="the last match wins: put the narrower rule last, or take its sites out of the "
        "wider one with `except`",
    )


def set_on_float(rule: Rule, action: SetField, sites: Sequence[Site]) -> Diagnostic:
    """QR306."""
    return Diagnostic(
        Code.SET_ON_FLOAT,
        f"`set {action.slot}.{action.change.field.value}` meets a slot that is float",
        Label(rule.span, "nothing to change here"),
        notes=some_paths(sites),
        help=f"add a `use` with a scheme for `{action.slot}` above, or take these layers out",
    )


def set_without_tensor(rule: Rule, action: SetField, sites: Sequence[Site]) -> Diagnostic:
    """QR306."""
    what = {
        "weight": "a weight",
        "act": "an activation operand",
        "act2": "a second operand",
        "kv": "keys and values: it is no attention in one operation",
    }
    return Diagnostic(
        Code.SET_ON_FLOAT,
        f"`set {action.slot}.{action.change.field.value}`: no selected site has "
        f"{what[action.slot]}",
        Label(rule.span, "nothing to change here"),
        notes=some_paths(sites),
        help="select other layers, or delete the line",
    )


def untie_without_tie(rule: Rule, sites: Sequence[Site]) -> Diagnostic:
    """QR306."""
    return Diagnostic(
        Code.SET_ON_FLOAT,
        "`set untie`: no selected site shares its weight with another",
        Label(rule.span, "nothing to change here"),
        notes=some_paths(sites),
        help="select other layers, or delete the line",
    )


def objected_on_site(rule: Rule, found: Objection, sites: Sequence[Site]) -> Diagnostic:
    """QR405."""
    return Diagnostic(
        Code.ILLEGAL_COMBINATION,
        found.reason,
        Label(rule.span, "with the scheme that is in force here"),
        notes=some_paths(sites),
        help=found.way_out,
    )

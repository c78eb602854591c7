"""Rules that later ones take the effect from, in whole or in part."""

from collections.abc import Iterator, Sequence

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.policy.conflicts import partly_shadowed, unreachable_rule
from qcompile.policy.recipe import Rule, SetField, SetSite
from qcompile.policy.resolution import Decision, Resolution


def lost_rules(rules: Sequence[Rule], resolution: Resolution) -> Iterator[Diagnostic]:
    """QR303 for a rule that decides nothing, QR305 for one that a wider one cuts into."""
    met: dict[int, list[Decision]] = {}
    for decision in resolution.decisions:
        for step in decision.trace:
            met.setdefault(id(step.rule), []).append(decision)
    for rule in rules:
        found = met.get(id(rule), [])
        if found and not any(_has_say(decision, rule) for decision in found):
            yield _unreachable(rule, found)
        elif not isinstance(rule.action, SetField | SetSite):
            yield from _shadowed(rule, found, met)


def _has_say(decision: Decision, rule: Rule) -> bool:
    return any(step.rule is rule and step.won for step in decision.trace)


def _unreachable(rule: Rule, met: Sequence[Decision]) -> Diagnostic:
    later: dict[int, Rule] = {}
    for decision in met:
        rules = [step.rule for step in decision.trace]
        place = next(number for number, other in enumerate(rules) if other is rule)
        later |= {id(step.rule): step.rule for step in decision.trace[place + 1 :] if step.won}
    ordered = sorted(later.values(), key=lambda other: other.span.start)
    return unreachable_rule(rule, [decision.site for decision in met], ordered)


def _shadowed(
    rule: Rule, met: Sequence[Decision], others: dict[int, list[Decision]]
) -> Iterator[Diagnostic]:
    """A narrower rule below a wider one is an exception; above it, it is hardly what was meant."""
    lost: dict[int, tuple[Rule, list[Decision]]] = {}
    for decision in met:
        winner = decision.rule
        if winner is not None and winner is not rule:
            lost.setdefault(id(winner), (winner, []))[1].append(decision)
    for place, (winner, decisions) in lost.items():
        wider = len(others[place])
        if wider > len(met):
            sites = [decision.site for decision in decisions]
            yield partly_shadowed(rule, len(met), sites, winner, wider)

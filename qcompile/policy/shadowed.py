"""Rules that no model could give anything to decide, since a later one always matches as well."""

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.inclusion import includes
from qcompile.policy.recipe import ChooseScheme, Recipe, Rule, SkipSite, UseScheme

MOST_RULES = 100
"""Every pair is compared; in longer policies, which programs write, only the model tells."""


def shadowed_rules(recipe: Recipe) -> list[Diagnostic]:
    """QR303, without a model; each rule with the first later one that takes all from it."""
    rules = recipe.rules
    if len(rules) > MOST_RULES:
        return []
    found: list[Diagnostic] = []
    for place, rule in enumerate(rules):
        if rule.final or not rule.has_say or rule.policy != recipe.policy:
            continue
        later = next((other for other in rules[place + 1 :] if _takes_all(other, rule)), None)
        if later is not None:
            found.append(always_shadowed(rule, later))
    return found


def _takes_all(later: Rule, rule: Rule) -> bool:
    decides = isinstance(later.action, UseScheme | SkipSite | ChooseScheme)
    return decides and includes(later.selector, rule.selector)


def always_shadowed(rule: Rule, later: Rule) -> Diagnostic:
    """QR303."""
    return Diagnostic(
        Code.UNREACHABLE_RULE,
        "unreachable rule: whatever it selects, the later line "
        f"{later.span.location.line} selects as well",
        Label(rule.span, "decides nothing in any model"),
        (Label(later.span, "decides instead"),),
        help="delete it, or move it down",
    )

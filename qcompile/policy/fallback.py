"""``require ... else``: the plan that takes the place of one that did not hold.

It is the policy's, as if that ended with a ``use`` of the scheme for all that it quantizes: what is
skipped stays float, what a ``final`` line decided stays as it is, and a ``set`` is forgotten.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.assertion import Failure
from qcompile.policy.core import SitePlan
from qcompile.policy.recipe import FallBack, Recipe, Requirement, Rule, on_one_line
from qcompile.policy.selector import Everything


def fallbacks(recipe: Recipe) -> Mapping[str, Requirement]:
    """The requirement that names each scheme first, in the order of the text."""
    found: dict[str, Requirement] = {}
    for item in recipe.requirements:
        if item.otherwise is not None:
            found.setdefault(item.otherwise, item)
    return found


def taken_fallback(recipe: Recipe) -> str | None:
    """The scheme that ``recipe`` has fallen back to."""
    schemes = (rule.action.scheme for rule in recipe.rules if isinstance(rule.action, FallBack))
    return next(schemes, None)


def with_fallback(recipe: Recipe, scheme: str) -> Recipe:
    """``recipe`` with ``scheme``, which one of its requirements names, instead of its own."""
    span = fallbacks(recipe)[scheme].span
    rule = Rule(
        action=FallBack(scheme),
        selector=Everything(span),
        final=False,
        optional=True,
        policy=recipe.policy or "",
        span=span,
    )
    own = (one for one in recipe.rules if not isinstance(one.action, FallBack))
    return replace(recipe, rules=(*own, rule))


def next_fallback(
    judged: Iterable[tuple[Requirement, Failure | None]], tried: Collection[str | None]
) -> tuple[str, Diagnostic] | None:
    """What the first requirement names that does not hold, and has a scheme that is not tried."""
    for item, why in judged:
        if why is not None and item.otherwise is not None and item.otherwise not in tried:
            return item.otherwise, fell_back(item, why)
    return None


def changed_layers(before: Sequence[SitePlan], after: Sequence[SitePlan]) -> int:
    """How many layers are quantized in another way."""
    old = {site.key: _specs(site) for site in before}
    return sum(old.get(site.key) != _specs(site) for site in after)


def _specs(site: SitePlan) -> list[object]:
    return [(tensor.slot, tensor.spec) for tensor in site.tensors]


def fell_back(requirement: Requirement, failure: Failure) -> Diagnostic:
    """QR610."""
    reason = (f"reason given: {requirement.reason}",) if requirement.reason else ()
    return Diagnostic(
        Code.FELL_BACK,
        f"`{on_one_line(requirement.claim.span)}` did not hold; `{requirement.otherwise}` is taken",
        Label(requirement.claim.span, failure.text),
        notes=reason,
        help="plan with this scheme from the start, or with more bits where it hurts, to save the"
        " time of a run that is thrown away",
    )


def changes_nothing(requirement: Requirement) -> Diagnostic:
    """QR303."""
    return Diagnostic(
        Code.UNREACHABLE_RULE,
        f"`else {requirement.otherwise}` changes nothing: all layers have this scheme,"
        " or a `final` line gives them theirs",
        Label(requirement.span),
        help="name a scheme with more bits, or leave `else` out",
    )


def of_fallback(problem: Diagnostic, scheme: str) -> Diagnostic:
    """``problem``, with where it is found: not in the plan itself."""
    return replace(problem, notes=(*problem.notes, f"in what `else {scheme}` falls back to"))

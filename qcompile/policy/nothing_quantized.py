"""A policy that leaves the whole model as it is: hardly what anybody writes a recipe for."""

from collections.abc import Iterator

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.recipe import Recipe
from qcompile.policy.resolution import Resolution


def nothing_quantized(recipe: Recipe, resolution: Resolution) -> Iterator[Diagnostic]:
    """QR313: at the last line of the policy, where it has one."""
    if recipe.policy is None or not resolution.decisions:
        return
    if not any(decision.is_quantized for decision in resolution.decisions):
        yield all_float(recipe, len(resolution.decisions))


def all_float(recipe: Recipe, count: int) -> Diagnostic:
    """QR313."""
    sites = "the only site stays" if count == 1 else f"all {count} sites stay"
    own = [rule for rule in recipe.rules if rule.policy == recipe.policy]
    return Diagnostic(
        Code.NOTHING_QUANTIZED,
        f"policy `{recipe.policy}` quantizes nothing: {sites} in float",
        Label(own[-1].span, "the last line, and nothing is quantized") if own else None,
        subject="" if own else recipe.source.name,
        help="see what an expression selects with `qcompile select EXPR RECIPE`; "
        "`optional` lines may match nothing",
    )

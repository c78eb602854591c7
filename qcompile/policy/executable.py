"""What a recipe may say, and this version cannot yet do: refused when it is planned (QR290)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Span
from qcompile.methods.axes import Solver
from qcompile.methods.tuning import Tuning
from qcompile.policy.core import SitePlan
from qcompile.policy.number_format import SumFormat, has_blocks
from qcompile.policy.recipe import Recipe, SlotName
from qcompile.policy.scheme import QuantSlot, slots_behind
from qcompile.policy.site import Kind
from qcompile.policy.unavailable import not_available

OF_ONE_TERM: tuple[Solver, ...] = ("optq", "gram", "cd")
"""Solvers of single layers, which choose one code for each weight."""
SHOWN = 5


def not_executable(recipe: Recipe) -> Iterator[Diagnostic]:
    """Of the schemes that the policy uses, or falls back to: slots that stay in float."""
    used = {name for rule in recipe.rules for name in rule.schemes}
    used |= {item.otherwise for item in recipe.requirements if item.otherwise is not None}
    for name in sorted(used):
        span = recipe.scheme_spans.get((name, "bias"))
        if isinstance(recipe.schemes[name].bias, QuantSlot) and span is not None:
            yield not_available("the slot `bias`", span, "leave the line out")


def unserved_formats(
    recipe: Recipe, planned: Sequence[SitePlan], tunings: Mapping[str, Tuning]
) -> list[Diagnostic]:
    """Sums of formats that are given to a solver of single layers, which knows one term alone.

    ``tunings`` are those of single sites, by key; the others have the recipe's.
    """
    sites: dict[tuple[str, str, str], list[SitePlan]] = {}
    for site in planned:
        weight = next((one for one in site.tensors if one.slot == "weight"), None)
        tuning = tunings.get(site.key, recipe.tuning)
        asked = _asks_for_one_term(tuning)
        if weight is not None and asked and isinstance(weight.spec.format, SumFormat):
            place = (site.scheme or "", asked, str(weight.spec.format))
            sites.setdefault(place, []).append(site)
    found: list[Diagnostic] = []
    for (scheme, asked, number), tuned in sites.items():
        span = recipe.scheme_spans.get((scheme, "weight")) or _of_model(recipe)
        problem = not_available(
            f"{asked} on `{number}`",
            span,
            "give these layers a `tune ... for` with the solvers `rtn` and `gradient`, of which"
            " every `variable` serves every format, or use one format, such as `int4`",
        )
        found.append(replace(problem, notes=_asked_for(tuned)))
    return found


def unserved_blocks(recipe: Recipe, planned: Sequence[SitePlan]) -> list[Diagnostic]:
    """Operands in a block format of which no single axis is known to be summed over."""
    sites: dict[tuple[str, SlotName, str], list[SitePlan]] = {}
    for site in planned:
        for tensor in site.tensors:
            if tensor.slot == "weight" or not has_blocks(tensor.spec.format):
                continue
            if tensor.block_axis is None:
                place = (site.scheme or "", tensor.slot, str(tensor.spec.format))
                sites.setdefault(place, []).append(site)
    found: list[Diagnostic] = []
    for (scheme, slot, number), asking in sites.items():
        names = slots_behind(slot, of_attention=asking[0].kind == Kind.ATTENTION.value)
        spans = (recipe.scheme_spans.get((scheme, name)) for name in names)
        problem = not_available(
            f"`{slot} {number}` of an operation that does not sum over one axis of it",
            next((span for span in spans if span is not None), None) or _of_model(recipe),
            "blocks are for what convolutions, linear layers, products and attentions read:"
            " give these operations another scheme, such as `fp8_e4m3` with `per_token`",
        )
        found.append(replace(problem, notes=_asked_for(asking)))
    return found


def _asked_for(sites: Sequence[SitePlan]) -> tuple[str, ...]:
    paths = tuple(dict.fromkeys(f"asked for: {site.path}" for site in sites))
    more = (f"and {len(paths) - SHOWN} more",) if len(paths) > SHOWN else ()
    return (*paths[:SHOWN], *more)


def _asks_for_one_term(tuning: Tuning) -> str:
    """What of a tuning serves one term alone, if anything."""
    if tuning.fits_nearest:
        learned = next(name for name in tuning.learn if name in ("scale", "bias"))
        return f"`learn = {learned}` of nearest rounding"
    return next((f"the solver `{one}`" for one in OF_ONE_TERM if one in tuning.solvers), "")


def _of_model(recipe: Recipe) -> Span:
    assert recipe.model is not None, "only a recipe with a model is planned"
    return recipe.model.span

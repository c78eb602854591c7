"""What a recipe may say, and this version cannot yet do: refused when it is planned (QR290)."""

from collections.abc import Iterator

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Span
from qcompile.methods.executed import unexecuted
from qcompile.methods.presets import PRESETS, preset
from qcompile.policy.attributes import listed
from qcompile.policy.number_format import IntFormat
from qcompile.policy.recipe import Recipe, UseScheme
from qcompile.policy.scheme import ALL_SLOTS, FloatSlot, QuantSlot, Slot
from qcompile.policy.unavailable import not_available


def not_executable(recipe: Recipe) -> list[Diagnostic]:
    return [*_tuning(recipe), *_formats(recipe)]


def _tuning(recipe: Recipe) -> Iterator[Diagnostic]:
    tuning, spans = recipe.tuning, recipe.tuning_spans
    if preset(tuning.preset) is None:
        way_out = f"use {listed(item.preset for item in PRESETS)}"
        yield not_available(f"the preset `{tuning.preset}`", _span(recipe, "preset"), way_out)
    for one in unexecuted(tuning):
        if preset(tuning.preset) is not None or one.setting in spans:
            where = _span(recipe, one.setting)
            way_out = f"use {listed(one.instead)}"
            yield not_available(f"`{one.setting} = {one.value}`", where, way_out)


def _formats(recipe: Recipe) -> Iterator[Diagnostic]:
    """Of the schemes that the policy uses."""
    actions = [rule.action for rule in recipe.rules]
    used = {action.scheme for action in actions if isinstance(action, UseScheme)}
    for name in sorted(used):
        scheme = recipe.schemes[name]
        for slot in ALL_SLOTS:
            spec: Slot = getattr(scheme, slot)
            what = None if isinstance(spec, FloatSlot) else _unexecuted(slot, spec)
            span = recipe.scheme_spans.get((name, slot))
            if what is not None and span is not None:
                yield not_available(what, span, _way_out(slot))


def _unexecuted(slot: str, spec: QuantSlot) -> str | None:
    if slot in ("bias", "kv"):
        return f"the slot `{slot}`"
    return None if isinstance(spec.format, IntFormat) else f"`{slot} {spec.format}`"


def _way_out(slot: str) -> str:
    return "leave the line out" if slot in ("bias", "kv") else "use `int2`..`int8`"


def _span(recipe: Recipe, setting: str) -> Span:
    """Of the setting, else of the statement's preset, else of the model."""
    spans = recipe.tuning_spans
    found = spans.get(setting) or spans.get("preset")
    if found is not None:
        return found
    assert recipe.model is not None, "only a recipe with a model is planned"
    return recipe.model.span

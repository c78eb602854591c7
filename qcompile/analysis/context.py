"""What a rule of the analysis may look at; nothing of it may be changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import fx

from qcompile.analysis.decide import quantizes_weight
from qcompile.diagnostics.source import Span
from qcompile.policy.recipe import Recipe
from qcompile.policy.resolution import Decision, Resolution
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.site import Site


@dataclass(frozen=True, slots=True)
class Context:
    """``sites`` and ``graph`` are as they will be run, after the transforms."""

    recipe: Recipe
    graph: fx.GraphModule
    sites: tuple[Site, ...]
    resolution: Resolution

    def decided(self) -> Iterator[tuple[Site, Decision]]:
        """Sites that a rule matched, each with its decision."""
        decisions: Mapping[str, Decision] = {d.site.key: d for d in self.resolution.decisions}
        for site in self.sites:
            decision = decisions.get(site.key)
            if decision is not None and decision.rule is not None:
                yield site, decision

    def weights(self) -> Iterator[tuple[Site, Decision, QuantSlot]]:
        """Sites whose weight will be quantized, with its format."""
        for site, decision in self.decided():
            slot = decision.slots["weight"]
            if quantizes_weight(site, decision) and isinstance(slot, QuantSlot):
                yield site, decision, slot

    def slot_span(self, decision: Decision, slot: str) -> Span:
        """The recipe text to blame for a slot: the last ``set``, the scheme's line, or the rule."""
        patches = decision.patched_by("weight" if slot == "weight" else "act")
        if patches:
            return patches[-1].span
        span = self.recipe.scheme_spans.get((decision.scheme or "", slot))
        assert decision.rule is not None
        return span if span is not None else decision.rule.span

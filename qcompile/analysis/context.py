"""What a rule of the analysis may look at; nothing of it may be changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import fx

from qcompile.analysis.accumulator import ACCUMULATOR_BITS
from qcompile.analysis.decide import quantizes_weight
from qcompile.analysis.structure import Structure
from qcompile.diagnostics.source import Span
from qcompile.policy.recipe import Recipe, SlotName
from qcompile.policy.resolution import Decision, Resolution
from qcompile.policy.scheme import QuantSlot, slots_behind
from qcompile.policy.site import Kind, Site


@dataclass(frozen=True)
class Context:
    """``sites`` and ``graph`` are as they will be run, after the transforms."""

    recipe: Recipe
    graph: fx.GraphModule
    sites: tuple[Site, ...]
    resolution: Resolution
    accumulator_bits: int = ACCUMULATOR_BITS
    """Of the kernels that the plan is for."""

    @cached_property
    def structure(self) -> Structure:
        return Structure.of(self.graph, self.sites)

    @cached_property
    def decisions(self) -> Mapping[str, Decision]:
        """By the key of their site, those of sites that a transform took away included."""
        return {decision.site.key: decision for decision in self.resolution.decisions}

    def decided(self) -> Iterator[tuple[Site, Decision]]:
        """Sites that a rule matched, each with its decision."""
        for site in self.sites:
            decision = self.decisions.get(site.key)
            if decision is not None and decision.rule is not None:
                yield site, decision

    def weights(self) -> Iterator[tuple[Site, Decision, QuantSlot]]:
        """Sites whose weight will be quantized, with its format."""
        for site, decision in self.decided():
            slot = decision.slots["weight"]
            if quantizes_weight(site, decision) and isinstance(slot, QuantSlot):
                yield site, decision, slot

    def operands(self) -> Iterator[tuple[Site, Decision, SlotName, str]]:
        """Each operand of a decided site: site, decision, ``act`` or ``act2``, node name."""
        for site, decision in self.decided():
            for position, operand in enumerate(site.operands):
                yield site, decision, "act" if position == 0 else "act2", operand

    def slot_span(self, decision: Decision, slot: SlotName) -> Span:
        """The recipe text to blame for a slot: the last ``set``, the scheme's line, or the rule."""
        patches = decision.patched_by(slot)
        if patches:
            return patches[-1].span
        assert decision.rule is not None
        spans, scheme = self.recipe.scheme_spans, decision.scheme or ""
        names = slots_behind(slot, of_attention=decision.site.kind is Kind.ATTENTION)
        found = (spans.get((scheme, name)) for name in names)
        return next((span for span in found if span is not None), decision.rule.span)

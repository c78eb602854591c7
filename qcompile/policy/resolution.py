"""What the policy has decided for each site of a model."""

from collections.abc import Iterator, Mapping

from qcompile.diagnostics.frozen import frozen
from qcompile.policy.change import Field
from qcompile.policy.recipe import SLOTS, ChooseScheme, Rule, SlotName
from qcompile.policy.scheme import FloatSlot, QuantSlot
from qcompile.policy.selection import Decided
from qcompile.policy.site import Site


@frozen
class TraceStep:
    """A rule that selected the site; ``won`` if it still has a say in the end."""

    rule: Rule
    won: bool
    slots: Mapping[SlotName, QuantSlot | FloatSlot] | None
    """As the rule left them; ``None`` where it was refused."""


@frozen
class Decision:
    """One site. ``rule`` is the last ``use``, ``choose`` or ``skip``; untouched without one.

    A slot that the site has no tensor for is float, whatever the scheme says of it.
    """

    site: Site
    scheme: str | None
    """``None``: skipped or untouched."""
    rule: Rule | None
    slots: Mapping[SlotName, QuantSlot | FloatSlot]
    patches: Mapping[tuple[SlotName, Field], Rule]
    """The ``set`` lines in force."""
    trace: tuple[TraceStep, ...]
    untied: Rule | None = None
    """The line that gives the site a weight of its own where others read the same one."""

    @property
    def ladder(self) -> tuple[str, ...]:
        """The schemes that a budget chooses from, fewest bits first; empty where none does."""
        rule = self.rule
        return rule.schemes if rule and isinstance(rule.action, ChooseScheme) else ()

    @property
    def is_skipped(self) -> bool:
        return self.rule is not None and self.scheme is None

    @property
    def is_untouched(self) -> bool:
        return self.rule is None

    @property
    def quantized(self) -> Iterator[tuple[SlotName, QuantSlot]]:
        """The slots in low precision, in the order ``weight``, ``act``, ``act2``."""
        for name in SLOTS:
            slot = self.slots[name]
            if isinstance(slot, QuantSlot):
                yield name, slot

    @property
    def is_quantized(self) -> bool:
        return next(self.quantized, None) is not None

    def patched_by(self, slot: SlotName) -> tuple[Rule, ...]:
        """The ``set`` lines in force for a slot, in the order of the text, each once."""
        rules = {id(rule): rule for (name, _), rule in self.patches.items() if name == slot}
        return tuple(sorted(rules.values(), key=lambda rule: rule.span.start))


@frozen
class Resolution:
    decisions: tuple[Decision, ...]
    """One for each site, in execution order."""

    @property
    def is_open(self) -> bool:
        """A budget chooses some of it."""
        return any(one.ladder for one in self.decisions)

    def of(self, index: int) -> Decision | None:
        """The decision on the site with this ``Site.index``."""
        return next((one for one in self.decisions if one.site.index == index), None)

    def decided(self, blocks: tuple[frozenset[int], ...] = ()) -> Decided:
        """As ``expect`` and ``prefer`` see it."""
        schemes: dict[str, set[int]] = {}
        for one in self.decisions:
            if one.scheme is not None:
                schemes.setdefault(one.scheme, set()).add(one.site.index)
        return Decided(
            schemes={name: frozenset(indices) for name, indices in schemes.items()},
            quantized=frozenset(one.site.index for one in self.decisions if one.is_quantized),
            blocks=blocks,
        )

"""Check what ``expect`` and ``prefer`` say against a resolved plan."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from itertools import product
from math import prod
from pathlib import PurePath
from typing import assert_never

from qcompile.diagnostics.codes import Code, Severity
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.frozen import frozen
from qcompile.policy.claim import (
    AfterRun,
    AllClaims,
    AnyClaim,
    Claim,
    CompareFigures,
    Count,
    EveryIs,
    Exists,
    Figure,
    FigureArithmetic,
    NotClaim,
    Predicted,
    Resource,
    ResourceName,
    RunFigure,
    SiteBits,
    SlotBits,
    Total,
    measures,
)
from qcompile.policy.recipe import Assertion, Budget, Limit, Requirement, SlotName
from qcompile.policy.resolution import Decision, Resolution
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.selection import Selection, calculate, compare
from qcompile.policy.selector import Comparator, Constant, Selector, Value
from qcompile.policy.site import Kind, Site
from qcompile.policy.size_part import SizePart, largest_parts
from qcompile.policy.unmatched import MAX_PATHS, some_paths

ELEMENT_BITS = (("8", 8), ("16", 16), ("32", 32), ("64", 64))
FLOAT_BITS = 32
LARGEST = 3
"""Layers of a rule that are named where it is the cause of something."""


@frozen
class Measured:
    """What an assertion needs besides the resolution."""

    bytes_total: int
    """All tensors of the artifact as they will lie on disk."""
    blocks: tuple[frozenset[int], ...] = ()
    """``Site.index`` of the sites of each block, in execution order."""
    parts: tuple[SizePart, ...] = ()
    """Of ``bytes_total``."""
    after_run: Mapping[RunFigure, float] = field(default_factory=dict[RunFigure, float])
    """Percentages are 0..100."""
    resources: Mapping[ResourceName, float] = field(default_factory=dict[ResourceName, float])
    """Seconds of ``time``, bytes of ``ram`` and ``disk``: a forecast, where there is one."""


@frozen
class Failure:
    """Why a claim does not hold, and the sites that say so."""

    text: str
    sites: tuple[Site, ...] = ()
    parts: tuple[str, ...] = ()
    """What a figure is made of, the most of it first."""


def check_assertions(
    assertions: Sequence[Assertion],
    sites: Sequence[Site],
    resolution: Resolution,
    measured: Measured,
) -> list[Diagnostic]:
    """One diagnostic for each that fails: an error of ``expect``, a warning of ``prefer``."""
    judge = _Judge(sites, resolution, measured)
    found = [(assertion, judge.failure(assertion.claim)) for assertion in assertions]
    return [
        expectation_failed(assertion, failure)
        for assertion, failure in found
        if failure is not None
    ]


def check_limits(
    budget: Budget | None,
    sites: Sequence[Site],
    resolution: Resolution,
    measured: Measured,
) -> list[Diagnostic]:
    """One diagnostic for each limit of ``budget`` that the plan goes beyond.

    Limits on the run are left to ``failed_run_limits``, those on what is chosen to the choice.
    """
    rows = () if budget is None else budget.limits
    limits = [one for one in rows if not one.resources and not one.is_predicted]
    judge = _Judge(sites, resolution, measured)
    found = [(limit, judge.failure(limit.claim)) for limit in limits]
    return [over_budget(limit, failure) for limit, failure in found if failure is not None]


def failed_run_limits(
    budget: Budget, sites: Sequence[Site], resolution: Resolution, measured: Measured
) -> list[tuple[Limit, Failure]]:
    """Limits on time, memory and disk that the forecast goes beyond."""
    judge = _Judge(sites, resolution, measured)
    found = [(limit, judge.failure(limit.claim)) for limit in budget.limits if limit.resources]
    return [(limit, failure) for limit, failure in found if failure is not None]


def check_requirements(
    requirements: Sequence[Requirement],
    sites: Sequence[Site],
    resolution: Resolution,
    measured: Measured,
) -> list[tuple[Requirement, Failure | None]]:
    judge = _Judge(sites, resolution, measured)
    return [(item, judge.failure(item.claim)) for item in requirements]


def claim_holds(
    claim: Claim, sites: Sequence[Site], resolution: Resolution, measured: Measured
) -> bool:
    return _Judge(sites, resolution, measured).failure(claim) is None


def evaluate_assertion(
    assertion: Assertion, sites: Sequence[Site], resolution: Resolution, measured: Measured
) -> str | None:
    """Why it fails, with what was found; ``None`` if it holds."""
    failure = _Judge(sites, resolution, measured).failure(assertion.claim)
    return failure.text if failure is not None else None


def expectation_failed(assertion: Assertion, failure: Failure) -> Diagnostic:
    """QR603."""
    reason = (f"reason given: {assertion.reason}",) if assertion.reason else ()
    text = " ".join(assertion.span.text.split())
    return Diagnostic(
        Code.EXPECTATION_FAILED,
        f"`{text}` does not hold",
        Label(assertion.claim.span, failure.text),
        notes=(*reason, *failure.parts, *some_paths(failure.sites)),
        help="mend the policy, or what is expected; `qcompile plan --trace` shows each decision",
        severity_override=None if assertion.kind == "expect" else Severity.WARNING,
    )


def over_budget(limit: Limit, failure: Failure) -> Diagnostic:
    """QR601."""
    return Diagnostic(
        Code.BUDGET_EXCEEDED,
        f"the plan goes beyond the budget `{_text(limit)}`",
        Label(limit.claim.span, failure.text),
        notes=(*failure.parts, *some_paths(failure.sites)),
        help="use fewer bits, or raise the limit; `qcompile plan --trace` shows each decision",
    )


def requirement_failed(
    requirement: Requirement, failure: Failure, artifact: PurePath
) -> Diagnostic:
    """QR606."""
    reason = (f"reason given: {requirement.reason}",) if requirement.reason else ()
    return Diagnostic(
        Code.REQUIREMENT_FAILED,
        f"`{_text(requirement)}` does not hold",
        Label(requirement.claim.span, failure.text),
        notes=(*reason, f"`{artifact}` is written, and its report says that it failed"),
        help="use more bits where it hurts, or a `tune` preset that learns",
    )


def selectors_of(claim: Claim) -> Iterator[Selector]:
    match claim:
        case AllClaims(items) | AnyClaim(items):
            for item in items:
                yield from selectors_of(item)
        case NotClaim(item):
            yield from selectors_of(item)
        case Exists(selector):
            yield selector
        case EveryIs(selector, target):
            yield from (selector, target)
        case CompareFigures():
            for figure in measures(claim):
                if isinstance(figure, Count | SiteBits):
                    yield figure.selector


class _Judge:
    def __init__(self, sites: Sequence[Site], resolution: Resolution, measured: Measured) -> None:
        self.selection = Selection(sites, resolution.decided(measured.blocks))
        self.decisions = resolution.decisions
        self.measured = measured

    def failure(self, claim: Claim) -> Failure | None:
        match claim:
            case AllClaims(items):
                return next(filter(None, map(self.failure, items)), None)
            case AnyClaim(items):
                return self._any(items)
            case NotClaim(item):
                text = f"`{_text(item)}` holds"
                return Failure(text) if self.failure(item) is None else None
            case Exists():
                return self._exists(claim)
            case EveryIs():
                return self._every(claim)
            case CompareFigures():
                return self._compare(claim)
            case _:
                assert_never(claim)

    def _any(self, items: Sequence[Claim]) -> Failure | None:
        failures = [self.failure(item) for item in items]
        real = [failure for failure in failures if failure is not None]
        if len(real) < len(failures):
            return None
        return Failure("; ".join(failure.text for failure in real))

    def _exists(self, claim: Exists) -> Failure | None:
        found = self._chosen(claim.selector)
        if bool(found) is claim.wanted:
            return None
        if claim.wanted:
            return Failure("found none")
        return Failure(f"found {len(found)}", tuple(one.site for one in found))

    def _every(self, claim: EveryIs) -> Failure | None:
        """Of no site at all it does not hold: it would hide a wrong selector."""
        chosen = self._chosen(claim.selector)
        if not chosen:
            return Failure(f"`{_text(claim.selector)}` selects nothing")
        target = self.selection.of(claim.target)
        others = tuple(one.site for one in chosen if one.site.index not in target)
        return Failure(f"{len(others)} of {len(chosen)} are not", others) if others else None

    def _compare(self, claim: CompareFigures) -> Failure | None:
        """A figure with several values must fit with each of them."""
        lefts, rights = self._values(claim.left), self._values(claim.right)
        for figure, values in ((claim.left, lefts), (claim.right, rights)):
            if not values:
                return Failure(f"`{_text(figure)}` has no value: nothing to measure")
        wrong = [
            (left, right)
            for left, right in product(lefts, rights)
            if not compare(claim.op, left, right)
        ]
        if not wrong:
            return None
        left, right = wrong[0]
        shown = [
            f"`{_text(figure)}` is {_shown(value)}"
            for figure, value in ((claim.left, left), (claim.right, right))
            if not isinstance(figure, Constant)
        ]
        return Failure(
            ", ".join(shown), self._culprits(claim, left, right), self._parts(claim, left, right)
        )

    def _parts(self, claim: CompareFigures, left: Value, right: Value) -> tuple[str, ...]:
        """Whose bytes a size is made of, or whose bits pull a figure over all layers away."""
        for figure, value, other in ((claim.left, left, right), (claim.right, right, left)):
            match figure:
                case SlotBits():
                    return self._pulling(
                        figure, value, ">=" if compare(">", value, other) else "<="
                    )
                case _:
                    pass
        is_size = any(isinstance(one, Total) and one.which == "size" for one in measures(claim))
        return largest_parts(self.measured.parts) if is_size else ()

    def _culprits(self, claim: CompareFigures, left: Value, right: Value) -> tuple[Site, ...]:
        """The counted sites, those with the bits that do not fit, or the most expensive ones."""
        for figure, value in ((claim.left, left), (claim.right, right)):
            match figure:
                case Count(selector):
                    return tuple(one.site for one in self._chosen(selector))
                case SiteBits(selector):
                    chosen = self._chosen(selector)
                    return tuple(one.site for one in chosen if site_bits(one) == value)
                case Total("macs" | "ops"):
                    products = [one.site for one in self.decisions if one.site.macs]
                    return tuple(sorted(products, key=lambda site: -(site.macs or 0)))
                case _:
                    pass
        return ()

    def _pulling(self, figure: SlotBits, value: Value, beyond: Comparator) -> tuple[str, ...]:
        """The rules whose layers lie beyond ``value``, most weights first, and such layers."""
        slots = _slots_of(figure)
        found: dict[str, list[Decision]] = {}
        for one in self.decisions:
            for slot, spec in one.quantized:
                if slot in slots and compare(beyond, spec.bits, value):
                    found.setdefault(_owed(one, slot, spec), []).append(one)
        ranked = sorted(found.items(), key=lambda item: -sum(map(_elements, item[1])))
        return tuple(f"{owed}: {_named(layers)}" for owed, layers in ranked[:MAX_PATHS])

    def _values(self, figure: Figure) -> list[Value]:
        """Every value that a figure takes, ascending; ``bits(S)`` may take several."""
        match figure:
            case Constant(value):
                return [value]
            case Count(selector):
                return [len(self.selection.of(selector))]
            case SiteBits(selector):
                return [*sorted({site_bits(one) for one in self._chosen(selector)})]
            case SlotBits():
                value = self._slot_bits(figure)
                return [] if value is None else [value]
            case Total("size"):
                return [self.measured.bytes_total]
            case Total(which):
                macs = sum(one.site.macs or 0 for one in self.decisions)
                return [macs if which == "macs" else 2 * macs]
            case AfterRun() | Resource() | Predicted():
                found = self._elsewhere(figure)
                return [] if found is None else [found]
            case FigureArithmetic(op, left, right):
                pairs = product(self._values(left), self._values(right))
                values = [calculate(op, a, b) for a, b in pairs]
                return [value for value in values if value is not None]

    def _elsewhere(self, figure: AfterRun | Resource | Predicted) -> float | None:
        """What a plan does not know; ``None`` if nothing has found it out."""
        match figure:
            case AfterRun(which):
                return self.measured.after_run.get(which)
            case Resource(which):
                return self.measured.resources.get(which)
            case Predicted():
                return None

    def _slot_bits(self, figure: SlotBits) -> Value | None:
        """Bits of all quantized tensors of the slot, ``act2`` counted with ``act``."""
        found = [
            (spec.bits, _elements(one) if slot == "weight" else 1)
            for one in self.decisions
            for slot, spec in one.quantized
            if slot in _slots_of(figure)
        ]
        if not found:
            return None
        match figure.which:
            case "min_bits":
                return min(bits for bits, _ in found)
            case "max_bits":
                return max(bits for bits, _ in found)
            case "avg_bits":
                weight = sum(elements for _, elements in found)
                return sum(bits * elements for bits, elements in found) / weight

    def _chosen(self, selector: Selector) -> list[Decision]:
        chosen = self.selection.of(selector)
        return [one for one in self.decisions if one.site.index in chosen]


def site_bits(decision: Decision) -> int:
    """Of the weight, or of the first operand of a site without one; of its float type if float.

    Of an attention whose queries are float, of its keys and values.
    """
    weight = decision.site.weight
    slot = decision.slots["weight" if weight is not None else "act"]
    if decision.site.kind is Kind.ATTENTION and not isinstance(slot, QuantSlot):
        slot = decision.slots["act2"]
    if isinstance(slot, QuantSlot):
        return slot.bits
    dtype = weight.dtype if weight is not None else ""
    return next((bits for end, bits in ELEMENT_BITS if dtype.endswith(end)), FLOAT_BITS)


def _owed(decision: Decision, slot: SlotName, spec: QuantSlot) -> str:
    """``int8 by `use w8 for linear` (net.qrecipe:6)``."""
    patches = decision.patched_by(slot)
    rule = patches[-1] if patches else decision.rule
    assert rule is not None, "an untouched site has no quantized slot"
    return f"{spec.format} by `{rule.reference.text}` ({rule.reference})"


def _named(layers: Sequence[Decision]) -> str:
    """The largest three: ``fc, conv1, conv2 and 19 more``."""
    ranked = sorted(layers, key=lambda one: -_elements(one))
    keys = list(dict.fromkeys(one.site.key for one in ranked))
    more = f" and {len(keys) - LARGEST} more" if len(keys) > LARGEST else ""
    return f"{', '.join(keys[:LARGEST])}{more}"


def _slots_of(figure: SlotBits) -> tuple[SlotName, ...]:
    return ("weight",) if figure.slot == "weight" else ("act", "act2")


def _elements(decision: Decision) -> int:
    weight = decision.site.weight
    return prod(weight.shape) if weight is not None else 0


def _text(item: Claim | Figure | Selector | Limit | Requirement) -> str:
    return " ".join(item.span.text.split())


def _shown(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

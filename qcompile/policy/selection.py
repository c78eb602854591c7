"""Evaluate selectors against the sites of a model."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import assert_never

from qcompile.diagnostics.frozen import frozen
from qcompile.policy.glob import Glob
from qcompile.policy.neighbours import related
from qcompile.policy.regex import Regex
from qcompile.policy.selector import (
    AllOf,
    AnyOf,
    Comparator,
    Compare,
    Constant,
    Everything,
    Fact,
    FactArithmetic,
    FactTerm,
    HasFact,
    InBlocks,
    Inside,
    IsQuantized,
    Leaf,
    Named,
    Not,
    Nth,
    OfKind,
    OfOp,
    OfParameter,
    Operator,
    Pattern,
    Related,
    Selector,
    Stretch,
    Subtree,
    Value,
    WithScheme,
)
from qcompile.policy.site import Site

NOTHING: frozenset[int] = frozenset()


@frozen
class Decided:
    """What is known once the policy has run; selectors of rules never look at it."""

    schemes: Mapping[str, frozenset[int]] = field(default_factory=dict[str, frozenset[int]])
    quantized: frozenset[int] = NOTHING
    blocks: tuple[frozenset[int], ...] = ()


UNDECIDED = Decided()


def evaluate(
    selector: Selector, sites: Sequence[Site], decided: Decided = UNDECIDED
) -> frozenset[int]:
    """``Site.index`` of every selected site."""
    return Selection(sites, decided).of(selector)


class Selection:
    """The sites of one model, with what named selectors were found to select."""

    def __init__(self, sites: Sequence[Site], decided: Decided = UNDECIDED) -> None:
        self.sites = sites
        self.decided = decided
        self._every = frozenset(site.index for site in sites)
        self._named: dict[int, tuple[Selector, frozenset[int]]] = {}

    def of(self, selector: Selector) -> frozenset[int]:
        match selector:
            case AllOf(items):
                return self._every.intersection(*(self.of(item) for item in items))
            case AnyOf(items):
                return NOTHING.union(*(self.of(item) for item in items))
            case Not(item):
                return self._every - self.of(item)
            case Nth(item, number):
                chosen = sorted(self.of(item))
                inside = -len(chosen) <= number < len(chosen)
                return frozenset({chosen[number]}) if inside else NOTHING
            case Stretch(first, last):
                return self._stretch(self.of(first), self.of(last))
            case Related(relation, item):
                return related(relation, self.sites, self.of(item))
            case Named():
                return self._of_named(selector)
            case _:
                return self._of_leaf(selector)

    def _of_named(self, selector: Named) -> frozenset[int]:
        """Once for each definition: names used twice at each step would else double the work."""
        key = id(selector.item)
        if key not in self._named:
            self._named[key] = (selector.item, self.of(selector.item))
        return self._named[key][1]

    def _stretch(self, first: frozenset[int], last: frozenset[int]) -> frozenset[int]:
        if not first or not last:
            return NOTHING
        return self._every.intersection(range(min(first), max(last) + 1))

    def _of_leaf(self, leaf: Leaf) -> frozenset[int]:
        match leaf:
            case Everything():
                return self._every
            case WithScheme(scheme):
                return self.decided.schemes.get(scheme, NOTHING)
            case IsQuantized(quantized):
                return self.decided.quantized if quantized else self._every - self.decided.quantized
            case InBlocks(first, last):
                return NOTHING.union(*self.decided.blocks[first : last + 1])
            case _:
                return frozenset(site.index for site in self.sites if _holds(leaf, site))


def leaves(selector: Selector) -> Iterator[Leaf]:
    """Every leaf once, in the order of the text; leaves of named selectors included."""
    seen: set[int] = set()
    waiting: list[Selector] = [selector]
    while waiting:
        match waiting.pop():
            case AllOf(items) | AnyOf(items):
                waiting.extend(reversed(items))
            case Not(item) | Nth(item) | Related(_, item):
                waiting.append(item)
            case Stretch(first, last):
                waiting += [last, first]
            case Named(_, item):
                if id(item) not in seen:
                    seen.add(id(item))
                    waiting.append(item)
            case leaf:
                yield leaf


def _holds(
    leaf: Pattern | Inside | OfParameter | Subtree | OfKind | OfOp | HasFact | Compare, site: Site
) -> bool:
    match leaf:
        case Pattern(matcher):
            return matcher.matches(site.path)
        case Inside(matcher, directly):
            scopes = site.scopes[-1:] if directly else site.scopes
            return any(matcher.matches(scope) for scope in scopes)
        case OfParameter(matcher):
            return site.weight is not None and matcher.matches(site.weight.path)
        case Subtree(matcher):
            return in_subtree(matcher, site)
        case OfKind(kind):
            return site.kind is kind
        case OfOp(op):
            return site.op == op
        case HasFact(fact):
            return site.depthwise if fact == "depthwise" else site.shared
        case Compare(op, left, right):
            a, b = value_at(left, site), value_at(right, site)
            return a is not None and b is not None and compare(op, a, b)
        case _:
            assert_never(leaf)


def in_subtree(matcher: Glob | Regex, site: Site) -> bool:
    return any(matcher.matches(path) for path in (site.path, *site.scopes))


# ---- numbers ----------------------------------------------------------------------------------

FACTS: tuple[tuple[str, Callable[[Site], Value | None]], ...] = (
    ("groups", lambda site: site.groups),
    ("kernel", lambda site: site.kernel),
    ("stride", lambda site: site.stride),
    ("in_features", lambda site: site.in_features),
    ("out_features", lambda site: site.out_features),
    ("params", lambda site: site.params),
    ("depth", lambda site: site.depth),
    ("macs", lambda site: site.macs),
)
LIST_FACTS = ("kernel", "stride")


def value_at(term: FactTerm, site: Site) -> Value | None:
    """``None`` where a fact does not apply, or for a division by a fact that is 0."""
    match term:
        case Constant(value):
            return value
        case Fact(name):
            return next(read(site) for fact, read in FACTS if fact == name)
        case FactArithmetic(op, left, right):
            return calculate(op, value_at(left, site), value_at(right, site))


def calculate(op: Operator, left: Value | None, right: Value | None) -> Value | None:
    """``None`` where an operand is missing or a list, and for a division by 0."""
    if left is None or right is None or isinstance(left, tuple) or isinstance(right, tuple):
        return None
    match op:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left / right if right else None
        case "%":
            return left % right if right else None


def compare(op: Comparator, left: Value, right: Value) -> bool:
    """Order is defined between numbers alone; lists are equal or not."""
    if op == "==":
        return left == right
    if op == "!=":
        return left != right
    if isinstance(left, tuple) or isinstance(right, tuple):
        return False
    match op:
        case "<":
            return operator.lt(left, right)
        case "<=":
            return operator.le(left, right)
        case ">":
            return operator.gt(left, right)
        case ">=":
            return operator.ge(left, right)

"""The one type checker: from the expressions of a recipe to selectors, numbers and claims."""

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Span
from qcompile.policy.claim import Claim, word_figure
from qcompile.policy.dimension import Dimension, in_base_units, unit
from qcompile.policy.glob import Glob, InvalidGlob, parse_glob
from qcompile.policy.operation import combine, negate
from qcompile.policy.regex import Regex, UnsafeRegex, parse_regex
from qcompile.policy.scope import (
    NUMBER_WORDS,
    SELECTOR_WORDS,
    Definition,
    Scope,
    forms_a_cycle,
    unknown_name,
)
from qcompile.policy.selection import FACTS, LIST_FACTS, leaves
from qcompile.policy.selector import (
    AllOf,
    AnyOf,
    Constant,
    Everything,
    Fact,
    HasFact,
    InBlocks,
    IsQuantized,
    Named,
    Not,
    Nth,
    OfKind,
    Pattern,
    Related,
    Selector,
    Stretch,
    Subtree,
    WithScheme,
)
from qcompile.policy.site import Kind
from qcompile.policy.type_errors import (
    invalid_pattern,
    known_too_late,
    too_deep,
    too_large_a_number,
    unknown_unit,
    unsafe_regex,
    wrong_type,
)
from qcompile.policy.typed import (
    CLAIMS,
    Flag,
    PathRegex,
    SlotWord,
    Text,
    Typed,
    describe,
    is_selector,
)
from qcompile.syntax import nodes
from qcompile.syntax.nodes import Binary, Call, Expr, Let, Param, Ref, Select, Unary

MAX_DEPTH = 100
"""Nested expressions, the definitions of used names included."""
MAX_TERMS = 64
"""Numbers in one sum or product."""
MAX_MAGNITUDE = 1e18

ARITHMETIC = frozenset("+-*/%")

Builder: TypeAlias = Callable[["Checker", Call], Typed | None]
ParameterReader: TypeAlias = Callable[[Param, str, "Checker"], Typed | None]
"""The value of a parameter, by its statement and its key in the closure."""


class Checker:
    """``None`` stands for an expression whose problem is in ``diagnostics`` already."""

    def __init__(
        self, scope: Scope, functions: Mapping[str, Builder], parameter: ParameterReader
    ) -> None:
        self.scope = scope
        self.functions = functions
        self.parameter = parameter
        self.diagnostics: list[Diagnostic] = []
        self.unavailable: list[Diagnostic] = []
        self._values: dict[str, tuple[Typed | None, int]] = {}
        self._open: list[str] = []
        self._depth = 0
        self._deepest = 0
        self._in_claim = False

    def report(self, diagnostic: Diagnostic) -> None:
        """QR290 waits for the plan: what this version cannot carry out is legal all the same."""
        late = diagnostic.code is Code.NOT_AVAILABLE
        (self.unavailable if late else self.diagnostics).append(diagnostic)

    # ---- what a statement asks for ------------------------------------------------------------

    def selector(self, expr: Expr) -> Selector | None:
        outer, self._in_claim = self._in_claim, False
        typed = self.check(expr)
        self._in_claim = outer
        return None if typed is None else self.as_selector(typed)

    def rule_selector(self, expr: Expr) -> Selector | None:
        """A selector that does not depend on what the policy decides."""
        selector = self.selector(expr)
        if selector is None:
            return None
        late = [
            leaf
            for leaf in leaves(selector)
            if isinstance(leaf, WithScheme | IsQuantized | InBlocks)
        ]
        for leaf in late:
            self.report(known_too_late(leaf.span))
        return None if late else selector

    def claim(self, expr: Expr) -> Claim | None:
        self._in_claim = True
        typed = self.check(expr)
        self._in_claim = False
        if typed is None:
            return None
        if isinstance(typed, CLAIMS):
            return cast(Claim, typed)
        hint = "write `exists(...)`, `none(...)` or `count(...) == 12`"
        self.report(wrong_type("a statement that holds or not", describe(typed), expr.span, hint))
        return None

    def constant(self, expr: Expr, dimension: Dimension) -> Constant | None:
        typed = self.check(expr)
        if typed is None:
            return None
        if isinstance(typed, Constant) and typed.dimension is dimension:
            return typed
        self.report(wrong_type(dimension.value, describe(typed), expr.span))
        return None

    def text(self, expr: Expr) -> Text | None:
        typed = self.check(expr)
        if typed is None or isinstance(typed, Text):
            return typed
        self.report(wrong_type("a string", describe(typed), expr.span))
        return None

    def matcher(self, expr: Expr) -> Glob | Regex | None:
        """A pattern on paths that is used other than on a site's own path."""
        typed = self.check(expr)
        match typed:
            case None:
                return None
            case Text():
                return self._glob(typed)
            case PathRegex(regex):
                return regex
            case Pattern(matcher) | Named(_, Pattern(matcher)):
                return matcher
            case _:
                self.report(wrong_type("a pattern of module paths", describe(typed), expr.span))
                return None

    def as_selector(self, typed: Typed) -> Selector | None:
        match typed:
            case Text(_, span):
                glob = self._glob(typed)
                return None if glob is None else Pattern(glob, span)
            case PathRegex(regex, span):
                return Pattern(regex, span)
            case _ if is_selector(typed):
                return cast(Selector, typed)
            case _:
                self.report(wrong_type("a selector", describe(typed), typed.span))
                return None

    # ---- expressions --------------------------------------------------------------------------

    def check(self, expr: Expr) -> Typed | None:
        """Operators that stand in a row are worked off in a loop: a row may be long."""
        spine: list[Binary] = []
        while isinstance(expr, Binary):
            spine.append(expr)
            expr = expr.left
        self._depth += 1
        self._deepest = max(self._deepest, self._depth)
        typed: Typed | None = None
        if self._depth > MAX_DEPTH or sum(one.op in ARITHMETIC for one in spine) > MAX_TERMS:
            self.report(too_deep(expr.span))
        else:
            typed = self._unit(expr)
            for binary in reversed(spine):
                typed = self._combine(binary, typed, self.check(binary.right))
        self._depth -= 1
        return typed

    def _combine(self, binary: Binary, left: Typed | None, right: Typed | None) -> Typed | None:
        if binary.op in ("and", "or", "except") or (
            binary.op == ".." and not isinstance(left, Constant)
        ):
            left, right = self._side(left), self._side(right)
        if left is None or right is None:
            return None
        result = combine(binary.op, left, right, binary.span)
        if isinstance(result, Diagnostic):
            self.report(result)
            return None
        if isinstance(result, Constant):
            return self.number(result)
        return result

    def _side(self, typed: Typed | None) -> Typed | None:
        """What ``and`` and ``or`` can join: claims, or what is or can become a selector."""
        if typed is None or isinstance(typed, CLAIMS):
            return typed
        return self.as_selector(typed)

    def _unit(self, expr: Expr) -> Typed | None:
        match expr:
            case nodes.Number(value, span):
                return self.number(Constant(value, Dimension.NUMBER, span))
            case nodes.Quantity():
                return self._quantity(expr)
            case nodes.String(value, span):
                return Text(value, span)
            case nodes.Regex():
                return self._regex(expr)
            case nodes.Bool(value, span):
                return Flag(value, span)
            case nodes.SlotRef(slot, span):
                return SlotWord(slot, span)
            case nodes.FloatWord(span):
                return IsQuantized(False, span)
            case Ref():
                return self._ref(expr)
            case Call():
                return self._call(expr)
            case _:
                return self._compound(expr)

    def _compound(self, expr: Expr) -> Typed | None:
        match expr:
            case nodes.ListExpr():
                return self._list(expr)
            case Unary():
                return self._unary(expr)
            case _:
                self.report(wrong_type("an expression", "a shape or a record", expr.span))
                return None

    def number(self, constant: Constant) -> Constant | None:
        value = constant.value
        if isinstance(value, tuple) or (abs(value) <= MAX_MAGNITUDE and not math.isnan(value)):
            return constant
        self.report(too_large_a_number(constant.span))
        return None

    def _quantity(self, expr: nodes.Quantity) -> Constant | None:
        found = unit(expr.unit)
        if found is None:
            self.report(unknown_unit(expr))
            return None
        if self.number(Constant(expr.value, found.dimension, expr.span)) is None:
            return None
        return Constant(in_base_units(expr.value, found), found.dimension, expr.span)

    def _regex(self, expr: nodes.Regex) -> PathRegex | None:
        try:
            return PathRegex(parse_regex(expr.pattern), expr.span)
        except UnsafeRegex as error:
            self.report(unsafe_regex(expr, error))
            return None

    def _glob(self, text: Text) -> Glob | None:
        try:
            return parse_glob(text.value)
        except InvalidGlob as error:
            self.report(invalid_pattern(text, error))
            return None

    def _list(self, expr: nodes.ListExpr) -> Constant | None:
        items = [self.constant(item, Dimension.NUMBER) for item in expr.items]
        values = [item.value for item in items if item is not None]
        if len(values) < len(items):
            return None
        numbers = tuple(value for value in values if not isinstance(value, tuple))
        return Constant(numbers, Dimension.LIST, expr.span)

    def _unary(self, expr: Unary) -> Typed | None:
        typed = self.check(expr.operand)
        if expr.op == "not":
            typed = self._side(typed)
        if typed is None:
            return None
        result = negate(expr.op, typed, expr.span)
        if isinstance(result, Diagnostic):
            self.report(result)
            return None
        return result

    # ---- names --------------------------------------------------------------------------------

    def _ref(self, ref: Ref) -> Typed | None:
        definition = self.scope.look_up(ref, "let", "param", "select")
        if definition is not None:
            return self._named(definition, ref)
        word = _word(ref.text, ref.span, self._in_claim)
        if word is None and not self.scope.is_broken(ref):
            self.report(self._unknown(ref))
        return word

    def _unknown(self, ref: Ref) -> Diagnostic:
        if self.scope.look_up(ref, "scheme") is not None:
            hint = f"write `scheme({ref.text})` for the sites that have it"
            return wrong_type("a selector", f"the scheme `{ref.text}`", ref.span, hint)
        if ref.text in self.functions:
            hint = f"write `{ref.text}(...)`"
            return wrong_type("a selector", f"the function `{ref.text}`", ref.span, hint)
        names = self.scope.names(ref.span, "let", "param", "select")
        known = [*SELECTOR_WORDS, *NUMBER_WORDS, *names]
        return unknown_name(ref, "name", self.scope, known)

    def _named(self, definition: Definition, ref: Ref) -> Typed | None:
        typed = self.define(definition, ref.span)
        if typed is None:
            return None
        if is_selector(typed):
            return Named(ref.text, cast(Selector, typed), ref.span)
        return typed

    def define(self, definition: Definition, used_at: Span) -> Typed | None:
        """The value of a ``let``, ``param`` or ``select``, checked once."""
        name = definition.key
        if name in self._open:
            names = [*self._open[self._open.index(name) :], name]
            self.report(forms_a_cycle("the definition", names, used_at))
            return None
        if name not in self._values:
            self._open.append(name)
            before, self._deepest = self._deepest, self._depth
            typed = self._value(definition)
            self._values[name] = (typed, self._deepest - self._depth)
            self._deepest = max(before, self._deepest)
            self._open.pop()
            return typed
        typed, height = self._values[name]
        self._deepest = max(self._deepest, self._depth + height)
        if self._depth + height > MAX_DEPTH:
            self.report(too_deep(used_at))
            return None
        return typed

    def _value(self, definition: Definition) -> Typed | None:
        """A path pattern stays what it is, so that ``inside(name)`` can use it."""
        outer, self._in_claim = self._in_claim, False
        typed: Typed | None = None
        match definition.node:
            case Let(_, value):
                typed = self.check(value)
            case Select(_, value):
                typed = self.selector(value)
            case Param() as node:
                typed = self.parameter(node, definition.key, self)
            case _:
                pass
        self._in_claim = outer
        return typed

    def _call(self, call: Call) -> Typed | None:
        builder = self.functions.get(call.func.text)
        if builder is not None:
            return builder(self, call)
        if not self.scope.is_broken(call.func):
            self.report(unknown_name(call.func, "function", self.scope, self.functions))
        return None


def _word(text: str, span: Span, in_claim: bool) -> Typed | None:
    """A word of the language that stands alone."""
    figure = word_figure(text, span) if in_claim else None
    if figure is not None:
        return figure
    match text:
        case "any":
            return Everything(span)
        case "quantized":
            return IsQuantized(True, span)
        case "depthwise" | "shared":
            return HasFact(text, span)
        case _ if any(text == kind.value for kind in Kind):
            return OfKind(Kind(text), span)
        case _ if any(text == name for name, _ in FACTS):
            dimension = Dimension.LIST if text in LIST_FACTS else Dimension.NUMBER
            return Fact(text, dimension, span)
        case _:
            return None


def with_subtrees(selector: Selector) -> Selector:
    """The meaning of ``selector`` in ``blocks``, where a pattern names a module and all below."""
    match selector:
        case Pattern(matcher, span):
            return Subtree(matcher, span)
        case Named(name, item, span):
            return Named(name, with_subtrees(item), span)
        case AnyOf(items, span):
            return AnyOf(tuple(with_subtrees(item) for item in items), span)
        case AllOf(items, span):
            return AllOf(tuple(with_subtrees(item) for item in items), span)
        case Not(item, span):
            return Not(with_subtrees(item), span)
        case Nth(item, number, span):
            return Nth(with_subtrees(item), number, span)
        case Related(relation, item, span):
            return Related(relation, with_subtrees(item), span)
        case Stretch(first, last, span):
            return Stretch(with_subtrees(first), with_subtrees(last), span)
        case _:
            return selector

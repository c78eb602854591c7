"""Names of schemes in rules, and the ladders of ``choose``: from the smallest to the largest."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.attributes import given_twice
from qcompile.policy.expression import Checker
from qcompile.policy.recipe import ChooseScheme
from qcompile.policy.scheme import QuantSlot, Scheme
from qcompile.policy.scope import unknown_name
from qcompile.syntax.nodes import Ref

FLOAT_BITS = 32


def scheme_key(ref: Ref, checker: Checker) -> str | None:
    """What ``Recipe.schemes`` calls the scheme that ``ref`` names."""
    scope = checker.scope
    definition = scope.look_up(ref, "scheme")
    if definition is not None:
        return definition.key
    if not scope.is_broken(ref):
        checker.report(unknown_name(ref, "scheme", scope, scope.names(ref.span, "scheme")))
    return None


def chosen(
    refs: Sequence[Ref], schemes: Mapping[str, Scheme], checker: Checker
) -> ChooseScheme | None:
    """The whole ladder is looked at; ``None`` where a rung is missing."""
    keys = [scheme_key(ref, checker) for ref in refs]
    if len(refs) < 2:
        checker.report(nothing_else(refs[0]))
    first: dict[str, Ref] = {}
    for ref in refs:
        if ref.text in first:
            checker.report(given_twice(ref.text, ref.span, first[ref.text].span))
        first.setdefault(ref.text, ref)
    rungs = [
        (ref, schemes[key])
        for ref, key in zip(refs, keys, strict=True)
        if key is not None and key in schemes
    ]
    for (lower, small), (ref, large) in pairwise(rungs):
        if lower.text != ref.text and bits(large) <= bits(small):
            checker.report(out_of_order(ref, lower))
    found = tuple(key for key in keys if key is not None)
    return ChooseScheme(found) if len(found) == len(keys) else None


def bits(scheme: Scheme) -> tuple[int, ...]:
    """Of weights, which the size depends on, then of activations, in the order of the slots."""
    slots = (scheme.weight, scheme.act, scheme.act2, scheme.kv)
    return tuple(slot.bits if isinstance(slot, QuantSlot) else FLOAT_BITS for slot in slots)


def nothing_else(ref: Ref) -> Diagnostic:
    """QR405."""
    return Diagnostic(
        Code.ILLEGAL_COMBINATION,
        "`choose` needs two schemes or more",
        Label(ref.span, "the only one"),
        help="add another scheme, or write `use`",
    )


def out_of_order(ref: Ref, before: Ref) -> Diagnostic:
    """QR405."""
    return Diagnostic(
        Code.ILLEGAL_COMBINATION,
        f"`{ref.text}` has no more bits than `{before.text}` before it",
        Label(ref.span),
        (Label(before.span),),
        help="order the schemes from the fewest bits to the most",
    )

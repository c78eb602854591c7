"""What is part of the language and not carried out by this version: said, never ignored.

``check`` accepts it, since it is legal; a plan is refused, since it would do something else. The
type checker therefore keeps these diagnostics apart, in ``Recipe.unavailable``.
"""

from collections.abc import Iterable, Iterator

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.policy.recipe import Rule, SetSite, ShareRange


def not_available(what: str, span: Span, way_out: str) -> Diagnostic:
    """QR290."""
    return Diagnostic(
        Code.NOT_AVAILABLE,
        f"{what} is not available in this version of qcompile",
        Label(span, "not available"),
        help=way_out,
    )


def unavailable_rules(rules: Iterable[Rule]) -> Iterator[Diagnostic]:
    """Of the policy that runs: what stands in others does no harm."""
    for rule in rules:
        match rule.action:
            case ShareRange("zero_point"):
                way_out = "write `share scale`: one range has one zero point as well"
                yield not_available("`share zero_point`", rule.span, way_out)
            case SetSite("per_call", False):
                way_out = "leave it out: each call of a module has ranges of its own"
                yield not_available("`set per_call = false`", rule.span, way_out)
            case _:
                pass

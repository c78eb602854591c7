"""A scheme that says something of keys and values, and no attention that has them."""

from collections.abc import Iterator

from qcompile.analysis.context import Context
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.site import Kind


def no_keys(context: Context) -> Iterator[Diagnostic]:
    """QR515: one for each scheme in use whose ``kv`` acts on nothing."""
    used = dict.fromkeys(one.scheme for _, one in context.decided() if one.scheme)
    served = {
        decision.scheme
        for site, decision in context.decided()
        if site.kind is Kind.ATTENTION and len(site.operands) > 1
    }
    for name in (one for one in used if one not in served):
        scheme, span = context.recipe.schemes[name], context.recipe.scheme_spans.get((name, "kv"))
        if isinstance(scheme.kv, QuantSlot) and span is not None:
            yield keys_unused(name, span)


def keys_unused(scheme: str, span: Span) -> Diagnostic:
    """QR515."""
    return Diagnostic(
        Code.NO_WEIGHT,
        f"`kv` of `{scheme}` has nothing to act on",
        Label(span, "no layer with this scheme is an attention"),
        help="add `attention` to what the scheme is for; where attention is written out as"
        " products, give them a scheme with `act2`",
    )

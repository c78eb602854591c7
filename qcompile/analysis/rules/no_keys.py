"""A scheme that says something of keys and values, and no attention that has them."""

from collections.abc import Iterator

from torch import fx

from qcompile.analysis.context import Context
from qcompile.capture.operands import ATTENTION_OPERANDS, argument
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.site import Kind, Site
from qcompile.policy.unmatched import some_paths


def no_keys(context: Context) -> Iterator[Diagnostic]:
    """QR515: one for each scheme in use whose ``kv`` acts on nothing, or not on all of it."""
    nodes = {node.name: node for node in context.graph.graph.nodes}
    attentions: dict[str, list[Site]] = {}
    for site, decision in context.decided():
        if decision.scheme is not None:
            met = attentions.setdefault(decision.scheme, [])
            met += [site] if site.kind is Kind.ATTENTION else []
    for name, met in attentions.items():
        scheme, span = context.recipe.schemes[name], context.recipe.scheme_spans.get((name, "kv"))
        if not isinstance(scheme.kv, QuantSlot) or span is None:
            continue
        if not met:
            yield keys_unused(name, span)
        mixed = [site for site in met if _lead(nodes[site.node])]
        if mixed:
            yield keys_are_queries(name, span, mixed)


def _lead(attention: fx.Node) -> bool:
    """A key or a value is the first that it reads: it is the query too, or that is a parameter."""
    query, *kept = (argument(attention, place) for place in ATTENTION_OPERANDS)
    return query in kept or not isinstance(query, fx.Node) or query.op == "get_attr"


def keys_are_queries(scheme: str, span: Span, sites: list[Site]) -> Diagnostic:
    """QR515."""
    return Diagnostic(
        Code.NO_WEIGHT,
        f"`kv` of `{scheme}` does not reach all keys and values",
        Label(span, "the first value that an attention reads is as `act` says"),
        notes=some_paths(sites),
        help="say it of `act`, or leave these layers out: here it is a key or a value",
    )


def keys_unused(scheme: str, span: Span) -> Diagnostic:
    """QR515."""
    return Diagnostic(
        Code.NO_WEIGHT,
        f"`kv` of `{scheme}` has nothing to act on",
        Label(span, "no layer with this scheme is an attention"),
        help="add `attention` to what the scheme is for; where attention is written out as"
        " products, give them a scheme with `act2`",
    )

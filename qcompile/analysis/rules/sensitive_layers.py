"""The layers that most often break a model below eight bits."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from qcompile.analysis.context import Context
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.recipe import Rule
from qcompile.policy.site import Kind, Site

LAYERS = (Kind.CONV, Kind.LINEAR, Kind.EMBEDDING)
SAFE_BITS = 8
SHOWN = 5


def sensitive_layers(context: Context) -> Iterator[Diagnostic]:
    """QR511: one for each rule, with the layers that it decides.

    Where a budget chooses, it is measured how sensitive a layer is.
    """
    roles = _roles(context)
    found: dict[int, list[str]] = defaultdict(list)
    rules: dict[int, Rule] = {}
    for site, decision, spec in context.weights():
        if site.key in roles and spec.bits < SAFE_BITS:
            patches = decision.patched_by("weight")
            if decision.ladder and not patches:
                continue
            rule = patches[-1] if patches else decision.rule
            assert rule is not None
            rules[id(rule)] = rule
            found[id(rule)].append(f"{site.key}: {roles[site.key]}, {spec.format}")
    for place, layers in found.items():
        yield below_eight_bits(rules[place], layers)


def _roles(context: Context) -> Mapping[str, str]:
    layers = [s for s in context.sites if s.kind in LAYERS and s.weight is not None]
    roles = {site.key: "depthwise" for site in layers if site.depthwise}
    return roles | _ends(layers)


def _ends(layers: list[Site]) -> dict[str, str]:
    if not layers:
        return {}
    return {layers[0].key: "the first layer", layers[-1].key: "the last layer"}


def below_eight_bits(rule: Rule, layers: list[str]) -> Diagnostic:
    """QR511."""
    more = (f"and {len(layers) - SHOWN} more",) if len(layers) > SHOWN else ()
    count = "a layer that is" if len(layers) == 1 else f"{len(layers)} layers that are"
    return Diagnostic(
        Code.SENSITIVE_LAYERS,
        f"fewer than {SAFE_BITS} bits for {count} sensitive to it",
        Label(rule.span, "decides them"),
        notes=(*layers[:SHOWN], *more),
        help=f"keep first, last and depthwise layers at {SAFE_BITS} bits: "
        "`use w8 for first(conv) or last(linear) or depthwise`",
    )

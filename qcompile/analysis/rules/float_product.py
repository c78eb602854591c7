"""A product with a parameter that can be no layer's weight here: a rule for layers passes it by."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

from torch import fx, nn

from qcompile.analysis.context import Context
from qcompile.analysis.decide import WEIGHTED
from qcompile.capture.kinds import kind_of
from qcompile.capture.node_meta import FLOATS, facts
from qcompile.capture.operations import bare_name, written_name
from qcompile.capture.roles import Role, role_of
from qcompile.compat.submodules import module_at
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.recipe import Rule
from qcompile.policy.resolution import Decision
from qcompile.policy.resolve import resolve
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.site import Kind, Parameter, Site

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Product:
    """A node that multiplies by ``parameter``, which no site calls its weight."""

    site: Site
    """As it would be if it were a layer: what rules for layers are held against."""
    parameter: Parameter
    why: str
    is_selectable: bool


def float_product(context: Context) -> Iterator[Diagnostic]:
    """QR519: one for each rule that asks for low precision of such a weight."""
    found = products(context)
    if not found:
        return
    asked = _asked(context, found)
    layers: dict[int, list[Product]] = defaultdict(list)
    rules: dict[int, Rule] = {}
    for product in found:
        rule = asked.get(product.site.key)
        if rule is not None:
            rules[id(rule)] = rule
            layers[id(rule)].append(product)
    for place, passed_by in layers.items():
        yield stays_float(rules[place], passed_by)


def products(context: Context) -> list[Product]:
    """In execution order."""
    found: list[Product] = []
    for node in context.graph.graph.nodes:
        kind = kind_of(node, context.graph)
        site = context.structure.sites.get(node.name)
        if kind not in WEIGHTED or (site is not None and site.weight is not None):
            continue
        behind = _parameter_behind(node, context.graph)
        if behind is not None:
            parameter, why = behind
            layer = _as_layer(node, site, parameter, len(context.sites) + len(found), context)
            found.append(Product(layer, parameter, why, is_selectable=site is not None))
    return found


def _as_layer(
    node: fx.Node, site: Site | None, parameter: Parameter, number: int, context: Context
) -> Site:
    kind = cast("Kind", kind_of(node, context.graph))
    kind = Kind.LINEAR if kind is Kind.MATMUL else kind
    if site is not None:
        return replace(site, kind=kind, weight=parameter)
    return Site(
        index=number,
        node=node.name,
        path=parameter.path.removesuffix(".weight"),
        call=facts(node).call,
        kind=kind,
        op=written_name(node, context.graph),
        scopes=tuple(call.path for call in facts(node).stack),
        weight=parameter,
        bias=None,
        operands=(),
        producers=(),
    )


def _asked(context: Context, found: list[Product]) -> Mapping[str, Rule]:
    """By key of the product: the rule that would decide the layer, or decides the operation.

    What is skipped is meant to stay in float.
    """
    as_layers = {product.site.index: product.site for product in found}
    own = [as_layers.pop(site.index, site) for site in context.sites]
    would, _ = resolve(context.recipe, [*own, *as_layers.values()])
    rules: dict[str, Rule] = {}
    for decision in would.decisions:
        real = context.decisions.get(decision.site.key)
        if real is not None and real.is_skipped:
            continue
        rule = _weight_rule(decision) or (_weight_rule(real) if real is not None else None)
        if rule is not None:
            rules[decision.site.key] = rule
    return rules


def _weight_rule(decision: Decision) -> Rule | None:
    return decision.rule if isinstance(decision.slots["weight"], QuantSlot) else None


def _parameter_behind(node: fx.Node, module: fx.GraphModule) -> tuple[Parameter, str] | None:
    """The matrix that ``node`` multiplies by, and why it is no weight that can be stored."""
    if node.op == "call_module":
        leaf = module_at(module, str(node.target))
        weight = getattr(leaf, "weight", None)
        if not isinstance(weight, nn.Parameter):
            return None
        return _described(f"{node.target}.weight", weight, ())
    for operand in reversed(node.all_input_nodes):  # what is multiplied by stands last
        through: list[str] = []
        at = operand
        while at.op != "get_attr" and role_of(at, module) is Role.PASS and at.all_input_nodes:
            through.append(_name(at))
            at = at.all_input_nodes[0]
        tensor = _attribute(at, module)
        if isinstance(tensor, nn.Parameter) and tensor.dim() > 1:
            return _described(str(at.target), tensor, tuple(reversed(through)))
    return None


def _name(node: fx.Node) -> str:
    """As it was written: ``.mT`` is recorded as ``getattr(x, "mT")``."""
    return f".{node.args[1]}" if node.target is getattr else bare_name(node)


def _attribute(node: fx.Node, module: fx.GraphModule) -> object:
    if node.op != "get_attr":
        return None
    owner, _, name = str(node.target).rpartition(".")
    return cast("object", getattr(module_at(module, owner), name))


def _described(path: str, tensor: nn.Parameter, through: tuple[str, ...]) -> tuple[Parameter, str]:
    dtype = str(tensor.dtype).removeprefix("torch.")
    parameter = Parameter(path, tuple(tensor.shape), dtype, path)
    if dtype not in FLOATS:
        return parameter, f"its numbers are {dtype}"
    if tensor.dim() > 2:
        return parameter, f"it is a stack of {tensor.shape[0]} matrices"
    if through:
        return parameter, f"it is read through {', '.join(f'`{name}`' for name in through)}"
    return parameter, "of the place where it stands"


def stays_float(rule: Rule, found: list[Product]) -> Diagnostic:
    """QR519."""
    weights = {product.parameter.path: product for product in found}
    first, more = next(iter(weights)), len(weights) - SHOWN
    own = found[0]
    silence = f'skip "{own.site.path}"' if own.is_selectable else "# qcompile: ignore[QR519] reason"
    return Diagnostic(
        Code.FLOAT_PRODUCT,
        f"`{first}` stays in float: it cannot be packed the way it is used"
        if len(weights) == 1
        else f"{len(weights)} weights stay in float: they cannot be packed the way they are used",
        Label(rule.span, "asks for low precision"),
        notes=(
            *(
                f"{path} {list(product.parameter.shape)}: {product.why}"
                for path, product in list(weights.items())[:SHOWN]
            ),
            *([f"and {more} more"] if more > 0 else []),
        ),
        help="write such a product as `torch.nn.functional.linear(x, weight)` with one matrix, "
        f"or say that float is meant: `{silence}`",
    )

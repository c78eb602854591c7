"""The ``prepare`` statements: rewrites that keep the function of the model, in order."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.policy.attributes import Attribute, Shape, given_twice, listed, read
from qcompile.policy.expression import Checker
from qcompile.policy.recipe import LiteralValue, Transform
from qcompile.policy.rotation import BALANCE, LARGEST_BLOCK, ROTATE, is_block
from qcompile.policy.unavailable import not_available
from qcompile.syntax.nodes import Name, Prepare

FOLD = "fold_bn"
TRANSFORMS: tuple[tuple[str, tuple[Attribute, ...]], ...] = (
    (FOLD, ()),
    ("equalize", (Attribute("iterations", Shape.INTEGER, low=1),)),
    ("smoothquant", (Attribute("alpha", Shape.NUMBER, high=1),)),
    ("awq", (Attribute("grid", Shape.INTEGER, low=2), Attribute("clip", Shape.FLAG))),
    ("ln_reparam", (Attribute("alpha", Shape.NUMBER, high=1),)),
    (
        ROTATE,
        (
            Attribute("matrix", Shape.WORD, choices=("hadamard",)),
            Attribute("block", Shape.INTEGER, low=2, high=LARGEST_BLOCK),
            Attribute(BALANCE, Shape.FLAG),
        ),
    ),
    ("bias_correction", ()),
)
"""Each with its settings; ``fold_bn`` is carried out even where it is not written."""

DEFAULTS: Mapping[str, Mapping[str, LiteralValue]] = MappingProxyType(
    {
        "equalize": {"iterations": 2},
        "smoothquant": {"alpha": 0.5},
        "awq": {"grid": 20},
        "ln_reparam": {"alpha": 1.0},
        ROTATE: {"matrix": "hadamard"},
    }
)
"""Of the transforms that are carried out, all but ``fold_bn``."""

INSTEAD: Mapping[str, str] = MappingProxyType(
    {"bias_correction": "say it of the method: `tune rtn { learn = [rounding, bias] }`"}
)


def lower_prepare(nodes: Sequence[Prepare], checker: Checker, at: Span) -> tuple[Transform, ...]:
    """In the order of the text; one that selects other layers may stand again.

    ``at`` stands for the transform that nobody wrote.
    """
    first: dict[str, Name] = {}
    found: list[Transform] = []
    for node in nodes:
        name = node.transform
        if node.selector is None and name.text in first:
            span = first[name.text].span
            checker.report(given_twice(f"prepare {name.text}", name.span, span))
            continue
        if node.selector is None:
            first[name.text] = name
        transform = _transform(node, checker)
        if transform is not None:
            found.append(transform)
    if FOLD not in {item.name for item in found}:
        found.insert(0, Transform(FOLD, {}, None, at))
    return tuple(found)


def _transform(node: Prepare, checker: Checker) -> Transform | None:
    name = node.transform
    known_settings = next((table for known, table in TRANSFORMS if known == name.text), None)
    if known_settings is None:
        checker.report(unknown_transform(name))
        return None
    given = read(f"`prepare {name.text}`", node.attrs, known_settings, checker, node.span)
    selector = None if node.selector is None else checker.rule_selector(node.selector)
    if name.text not in {FOLD, *DEFAULTS}:
        way_out = INSTEAD.get(name.text, f"there are {listed(DEFAULTS)}")
        checker.report(not_available(f"`prepare {name.text}`", name.span, way_out))
    elif name.text == FOLD and node.selector is not None:
        way_out = "leave `for` out, and `skip` the layers that are to stay as they are"
        checker.report(not_available(f"`prepare {FOLD} for`", node.selector.span, way_out))
    block, at = given.integer("block"), given.attr("block")
    if block is not None and at is not None and not is_block(block):
        checker.report(no_power_of_two(block, at.value.span))
    clip = given.attr("clip")
    if clip is not None and given.flag("clip"):
        way_out = "leave it out: the observer looks for the range, `tune rtn_gram` by the output"
        checker.report(not_available("`clip = true`", clip.span, way_out))
    settings = {**DEFAULTS.get(name.text, {}), **given.values()}
    return Transform(name.text, settings, selector, node.span)


def no_power_of_two(block: int, span: Span) -> Diagnostic:
    """QR410."""
    below = 1 << (block.bit_length() - 1)
    return Diagnostic(
        Code.VALUE_RANGE,
        f"`block` must be a power of two, found {block}",
        Label(span),
        help=f"write {below} or {2 * below}",
    )


def unknown_transform(name: Name) -> Diagnostic:
    """QR201."""
    return Diagnostic(
        Code.UNKNOWN_NAME,
        f"unknown transform `{name.text}`",
        Label(name.span),
        help=did_you_mean(name.text, [known for known, _ in TRANSFORMS])
        or f"write `prepare {FOLD}`",
    )

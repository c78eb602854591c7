"""The ``blocks`` statement: which stretches of the model are reconstructed as one."""

from qcompile.diagnostics.source import Span
from qcompile.policy.attributes import Attribute, Shape, given_twice, read
from qcompile.policy.expression import Checker, with_subtrees
from qcompile.policy.recipe import BlockEach, BlockGroup
from qcompile.policy.selection import leaves
from qcompile.policy.selector import AnyOf, Named, Selector, Subtree
from qcompile.policy.type_errors import wrong_type
from qcompile.policy.unavailable import not_available
from qcompile.syntax import nodes
from qcompile.syntax.nodes import Attr, BlocksBlock

TABLE = (
    Attribute("overlap", Shape.INTEGER),
    Attribute("warmup", Shape.INTEGER, carried_out=False),
)


def lower_blocks(node: BlocksBlock, checker: Checker) -> tuple[BlockEach | BlockGroup, ...]:
    attrs = [item for item in node.items if isinstance(item, Attr)]
    settings = read("`blocks`", attrs, TABLE, checker, node.span)
    overlap = settings.attr("overlap")
    if overlap is not None and settings.integer("overlap"):
        checker.report(not_available("`overlap` of blocks", overlap.span, "write `overlap = 0`"))
    groups: dict[str, Span] = {}
    rows: list[BlockEach | BlockGroup | None] = []
    for item in node.items:
        match item:
            case nodes.BlockEach():
                rows.append(_each(item, checker))
            case nodes.BlockGroup(name):
                if name.text in groups:
                    checker.report(given_twice(name.text, name.span, groups[name.text]))
                groups.setdefault(name.text, name.span)
                rows.append(_group(item, checker))
            case Attr():
                pass
    return tuple(row for row in rows if row is not None)


def _each(item: nodes.BlockEach, checker: Checker) -> BlockEach | None:
    selector = checker.rule_selector(item.selector)
    if selector is None:
        return None
    found = with_subtrees(selector)
    if _names_modules(found):
        return BlockEach(found, item.span)
    wanted = 'patterns of module paths, such as `"layers.*"`'
    checker.report(wrong_type(wanted, "another selector", item.selector.span))
    return None


def _names_modules(selector: Selector) -> bool:
    """Patterns, joined by ``or`` alone: each match is one block."""
    match selector:
        case Subtree():
            return True
        case AnyOf(items):
            return all(_names_modules(item) for item in items)
        case Named(_, item):
            return _names_modules(item)
        case _:
            return False


def _group(item: nodes.BlockGroup, checker: Checker) -> BlockGroup | None:
    selector = checker.rule_selector(item.selector)
    if selector is None:
        return None
    return BlockGroup(item.name.text, with_subtrees(selector), item.span)


def patterns(each: BlockEach) -> list[Subtree]:
    return [leaf for leaf in leaves(each.selector) if isinstance(leaf, Subtree)]

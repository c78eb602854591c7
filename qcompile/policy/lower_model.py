"""The ``model`` statement: where the model comes from and what it is called with."""

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.policy.attributes import Attribute, Shape, given_twice, integer, listed, read
from qcompile.policy.expression import Checker
from qcompile.policy.lower_images import lower_images
from qcompile.policy.recipe import Input, Model
from qcompile.policy.type_errors import wrong_type
from qcompile.policy.unavailable import not_available
from qcompile.syntax.nodes import Arg, Attr, Expr, Index, ModelBlock, Record, Ref

TABLE = (
    Attribute("args", Shape.LITERALS),
    Attribute("weights", Shape.TEXT),
    Attribute("input", Shape.RAW),
    Attribute("inputs", Shape.RAW),
    Attribute("images", Shape.RAW),
    Attribute("strict", Shape.FLAG),
    Attribute("leaf", Shape.TEXTS, carried_out=False),
)
DTYPES = ("float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")


def lower_model(node: ModelBlock, checker: Checker) -> Model:
    settings = read("`model`", node.attrs, TABLE, checker, node.reference.span)
    one, several = settings.attr("input"), settings.attr("inputs")
    if one is not None and several is not None:
        checker.report(two_kinds_of_input(several.name.span, one.name.span))
    strict = settings.attr("strict")
    if strict is not None and settings.flag("strict") is False:
        way_out = "leave it out: the weights must fit the model"
        checker.report(not_available("`strict = false`", strict.span, way_out))
    images = settings.attr("images")
    return Model(
        reference=node.reference.value,
        args=settings.items("args"),
        weights=settings.text("weights"),
        inputs=_inputs(one, several, checker),
        images=None if images is None else lower_images(images, checker),
        span=node.reference.span,
    )


def _inputs(one: Attr | None, several: Attr | None, checker: Checker) -> tuple[Input, ...]:
    if several is None:
        found = _input(None, one.value, checker) if one is not None else None
        return () if found is None else (found,)
    if not isinstance(several.value, Record):
        wanted = "names with shapes, such as `{ input_ids = int64[batch, seq] }`"
        checker.report(wrong_type(wanted, "another value", several.value.span))
        return ()
    first: dict[str, Span] = {}
    inputs: list[Input | None] = []
    for attr in several.value.attrs:
        name = attr.name.text
        if name in first:
            checker.report(given_twice(name, attr.name.span, first[name]))
            continue
        first[name] = attr.name.span
        inputs.append(_input(name, attr.value, checker))
    return tuple(item for item in inputs if item is not None)


def _input(name: str | None, expr: Expr, checker: Checker) -> Input | None:
    if not isinstance(expr, Index) or not isinstance(expr.base, Ref):
        wanted = "a type with a shape, such as `float32[batch, 3, 224, 224]`"
        checker.report(wrong_type(wanted, "another value", expr.span))
        return None
    dtype = expr.base.text
    if dtype not in DTYPES:
        checker.report(unknown_dtype(expr.base))
        return None
    sizes = [_size(arg, checker) for arg in expr.args]
    shape = tuple(size for size in sizes if size is not None)
    return Input(name, dtype, shape, expr.span) if len(shape) == len(sizes) else None


def _size(arg: Arg, checker: Checker) -> int | str | None:
    """A name stands for a size that may vary, unless a ``let`` gives it a value."""
    value = arg.value
    if isinstance(value, Ref) and checker.scope.look_up(value, "let", "param") is None:
        return value.text
    return integer(value, "size", 1, None, checker)


def two_kinds_of_input(second: Span, first: Span) -> Diagnostic:
    """QR405."""
    return Diagnostic(
        Code.ILLEGAL_COMBINATION,
        "`input` and `inputs` exclude each other",
        Label(second),
        (Label(first),),
        help="write `input` for one positional input, `inputs` for inputs with names",
    )


def unknown_dtype(ref: Ref) -> Diagnostic:
    """QR410."""
    return Diagnostic(
        Code.VALUE_RANGE,
        f"unknown element type `{ref.text}`",
        Label(ref.span),
        help=f"write one of {listed(DTYPES)}",
    )

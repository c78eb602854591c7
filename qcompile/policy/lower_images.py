"""``images = { ... }`` of the ``model`` statement."""

from typing import cast, get_args

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.policy.attributes import Attribute, Settings, Shape, integer, read
from qcompile.policy.expression import Checker
from qcompile.policy.images import CHANNELS, LEAST, Images, Interpolation
from qcompile.policy.type_errors import wrong_type
from qcompile.syntax.nodes import Attr, Expr, ListExpr, Record

TABLE = (
    Attribute("resize", Shape.RAW),
    Attribute("crop", Shape.RAW),
    Attribute("mean", Shape.LITERALS, required=True),
    Attribute("std", Shape.LITERALS, required=True),
    Attribute("interpolation", Shape.WORD, choices=get_args(Interpolation)),
)


def lower_images(attr: Attr, checker: Checker) -> Images | None:
    """``None`` where a value is wrong, which is reported."""
    record = attr.value
    if not isinstance(record, Record):
        wanted = "settings, such as `{ resize = 256, crop = 224, mean = [...], std = [...] }`"
        checker.report(wrong_type(wanted, "another value", record.span))
        return None
    settings = read("`images`", record.attrs, TABLE, checker, attr.span)
    resize, crop = _sizes("resize", settings, checker), _sizes("crop", settings, checker)
    mean, std = _channels("mean", settings, checker), _channels("std", settings, checker)
    found = {"resize": resize, "crop": crop, "mean": mean, "std": std}
    if any(settings.attr(name) and value is None for name, value in found.items()):
        return None
    if mean is None or std is None:
        return None
    whole = (crop, crop) if isinstance(crop, int) else crop
    problem = _size_problem(resize, whole, attr.span)
    if len(mean) != len(std):
        problem = other_channels(len(mean), len(std), attr.span)
    if problem is not None:
        checker.report(problem)
        return None
    interpolation = cast("Interpolation", settings.text("interpolation") or "bilinear")
    return Images(mean, std, resize, whole, interpolation)


def _sizes(name: str, settings: Settings, checker: Checker) -> int | tuple[int, int] | None:
    attr = settings.attr(name)
    if attr is None:
        return None
    if not isinstance(attr.value, ListExpr):
        return _pixels(name, attr.value, checker)
    sizes = [_pixels(name, item, checker) for item in attr.value.items]
    if len(sizes) != 2:
        wanted = "a size, or height and width such as `[224, 224]`"
        checker.report(wrong_type(wanted, f"a list of {len(sizes)}", attr.value.span))
        return None
    height, width = sizes
    return None if height is None or width is None else (height, width)


def _pixels(name: str, expr: Expr, checker: Checker) -> int | None:
    return integer(expr, name, 1, None, checker)


def _channels(name: str, settings: Settings, checker: Checker) -> tuple[float, ...] | None:
    """One number or three; those of ``std`` are divided by."""
    attr = settings.attr(name)
    if attr is None:
        return None
    items = settings.items(name)
    numbers = tuple(
        float(item)
        for item in items
        if isinstance(item, int | float) and not isinstance(item, bool)
    )
    if len(numbers) not in CHANNELS or len(numbers) != len(items):
        wanted = "three numbers, of red, green and blue, or one, of grey pictures"
        checker.report(wrong_type(wanted, "something else", attr.value.span))
        return None
    if name == "std" and min(numbers) < LEAST:
        checker.report(not_positive(attr.value.span))
        return None
    return numbers


def _size_problem(
    resize: int | tuple[int, int] | None, crop: tuple[int, int] | None, span: Span
) -> Diagnostic | None:
    if crop is None:
        return None if isinstance(resize, tuple) else no_common_size(span)
    if resize is None:
        return None
    height, width = (resize, resize) if isinstance(resize, int) else resize
    return crop_too_large(span) if crop[0] > height or crop[1] > width else None


def other_channels(of_mean: int, of_std: int, span: Span) -> Diagnostic:
    """QR405."""
    return Diagnostic(
        Code.ILLEGAL_COMBINATION,
        f"`mean` is of {of_mean} channels and `std` of {of_std}",
        Label(span),
        help="write one number each for grey pictures, three for colours",
    )


def not_positive(span: Span) -> Diagnostic:
    """QR410."""
    return Diagnostic(
        Code.VALUE_RANGE,
        "`std` must be above 0: it is divided by",
        Label(span),
        help="write what the model was trained with, or 1 for numbers from 0 to 1",
    )


def no_common_size(span: Span) -> Diagnostic:
    """QR405."""
    return Diagnostic(
        Code.ILLEGAL_COMBINATION,
        "nothing makes all pictures the same size",
        Label(span),
        help="write `crop = 224`, or height and width, `resize = [224, 224]`",
    )


def crop_too_large(span: Span) -> Diagnostic:
    """QR405."""
    return Diagnostic(
        Code.ILLEGAL_COMBINATION,
        "`crop` is larger than what `resize` leaves",
        Label(span),
        help="write a `resize` of at least the size of `crop`",
    )

"""The ``tune`` statement: a preset of the engine, with some of its axes moved."""

from collections.abc import Sequence
from dataclasses import replace

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.methods.presets import DEFAULT_PRESET, PRESETS, preset
from qcompile.methods.tuning import Tuning
from qcompile.policy.attributes import (
    Attribute,
    Settings,
    Shape,
    listed,
    read,
    unknown_value,
)
from qcompile.policy.dimension import Dimension
from qcompile.policy.expression import Checker
from qcompile.policy.type_errors import wrong_type
from qcompile.policy.unavailable import not_available
from qcompile.syntax.nodes import Arg, Attr, Call, Expr, Name, Ref, TuneBlock

TABLE = (
    Attribute("partition", Shape.WORD, choices=("layer", "block"), later=("stage", "network")),
    Attribute("solver", Shape.WORDS, choices=("rtn", "optq", "gradient"), later=("gram", "cd")),
    Attribute(
        "variable",
        Shape.WORD,
        choices=("gate",),
        later=("additive", "division", "weight", "categorical", "annealed"),
    ),
    Attribute(
        "learn",
        Shape.WORDS,
        choices=("rounding", "act_scale"),
        later=("scale", "zero_point", "exponent", "levels", "bias", "norm"),
    ),
    Attribute(
        "loss",
        Shape.WORD,
        choices=("mse",),
        later=("fisher", "fisher_full", "prediction", "kl", "cosine", "huber", "l1"),
    ),
    Attribute("drop", Shape.RAW),
    Attribute("optimizer", Shape.RAW),
    Attribute("steps", Shape.INTEGER, low=1),
    Attribute("batch", Shape.INTEGER, low=1),
    Attribute("seed", Shape.INTEGER),
    Attribute("precision", Shape.WORD, choices=("auto", "fp32", "bf16")),
    Attribute("order", Shape.WORD, choices=("natural", "activation")),
    Attribute("regularizer", Shape.LATER),
    Attribute("augment", Shape.LATER),
    Attribute("select", Shape.LATER),
    Attribute("schedule", Shape.LATER),
    Attribute("samples", Shape.LATER),
    Attribute("patience", Shape.LATER),
    Attribute("inputs", Shape.LATER),
)
LEARNING = ("steps", "batch", "precision", "variable", "learn", "loss", "drop", "optimizer")
"""Without effect where nothing is learned."""

LATER_PRESETS = ("pdquant", "signround", "flexround", "genie", "hybrid", "adaquant", "lsq")
STAND_IN = next(item for item in PRESETS if item.learns)
"""For a preset that there will be, so that its settings are checked as those of one that learns."""
DROPS = ("none", "input", "act", "both")
OPTIMIZERS = ("adam",)
LATER_OPTIMIZERS = ("sgd", "sign_sgd", "adamw", "nadam", "adamax", "adagrad", "rmsprop", "lion")


def default_tuning() -> Tuning:
    found = preset(DEFAULT_PRESET)
    assert found is not None, "the default preset is one of the presets"
    return found


def lower_tune(node: TuneBlock, checker: Checker) -> Tuning:
    start = _preset(node.preset, checker)
    settings = read(f"`tune {node.preset.text}`", node.attrs, TABLE, checker, node.span)
    tuning = _tuned(start, settings, checker)
    if not tuning.learns:
        for attr in filter(None, map(settings.attr, LEARNING)):
            checker.report(without_effect(attr, tuning))
    return tuning


def _preset(name: Name, checker: Checker) -> Tuning:
    found = preset(name.text)
    if found is not None:
        return found
    known = [item.preset for item in PRESETS]
    if name.text in LATER_PRESETS:
        way_out = f"use {listed(known)}"
        checker.report(not_available(f"the preset `{name.text}`", name.span, way_out))
        return STAND_IN
    checker.report(unknown_preset(name))
    return default_tuning()


def _tuned(start: Tuning, settings: Settings, checker: Checker) -> Tuning:
    """Words and numbers were checked against the table, so that nothing is left to refuse."""
    update: dict[str, object] = {
        "partition": settings.text("partition"),
        "solvers": settings.items("solver") or None,
        "variable": settings.text("variable"),
        "learn": settings.items("learn") or None,
        "loss": settings.text("loss"),
        "steps": settings.integer("steps"),
        "batch": settings.integer("batch"),
        "seed": settings.integer("seed"),
        "precision": settings.text("precision"),
        "order": settings.text("order"),
    }
    drop, optimizer = settings.attr("drop"), settings.attr("optimizer")
    if drop is not None:
        update |= _drop(drop, checker)
    if optimizer is not None:
        update |= _optimizer(optimizer, checker)
    given = {name: value for name, value in update.items() if value is not None}
    return replace(start, **given)  # pyright: ignore[reportArgumentType]


def _drop(attr: Attr, checker: Checker) -> dict[str, object]:
    """``both`` or ``both(0.5)``: the probability that an element stays quantized."""
    word, args = _word_and_args(attr, "drop", DROPS, ("gradual",), checker)
    if word is None:
        return {}
    match args:
        case ():
            return {"drop": word}
        case (Arg(None, value),):
            probability = _number(value, "the probability", 0, 1, checker)
            return {} if probability is None else {"drop": word, "keep_quantized": probability}
        case _:
            checker.report(wrong_type("one probability", "other arguments", attr.value.span))
            return {}


def _optimizer(attr: Attr, checker: Checker) -> dict[str, object]:
    """``adam`` or ``adam(lr=1e-3)``."""
    word, args = _word_and_args(attr, "optimizer", OPTIMIZERS, LATER_OPTIMIZERS, checker)
    update: dict[str, object] = {} if word is None else {"optimizer": word}
    for arg in args:
        if arg.name is None or arg.name.text != "lr":
            checker.report(unknown_argument(arg))
            continue
        rate = _number(arg.value, "lr", 0, 10, checker)
        if rate is not None:
            update["lr"] = rate
    return update


def _word_and_args(
    attr: Attr, name: str, choices: Sequence[str], later: Sequence[str], checker: Checker
) -> tuple[str | None, tuple[Arg, ...]]:
    value = attr.value
    ref = value.func if isinstance(value, Call) else value
    if not isinstance(ref, Ref):
        checker.report(wrong_type(f"one of {listed(choices)}", "something else", value.span))
        return None, ()
    word, args = ref.text, value.args if isinstance(value, Call) else ()
    if word in choices:
        return word, args
    if word in later:
        way_out = f"use {listed(choices)}"
        checker.report(not_available(f"`{name} = {word}`", attr.value.span, way_out))
    else:
        checker.report(unknown_value(name, Ref((word,), attr.value.span), (*choices, *later)))
    return None, ()


def _number(expr: Expr, name: str, low: float, high: float, checker: Checker) -> float | None:
    constant = checker.constant(expr, Dimension.NUMBER)
    if constant is None or isinstance(constant.value, tuple):
        return None
    if low <= constant.value <= high:
        return float(constant.value)
    checker.report(number_out_of_range(name, constant.value, low, high, expr.span))
    return None


def number_out_of_range(name: str, value: float, low: float, high: float, span: Span) -> Diagnostic:
    """QR410."""
    return Diagnostic(
        Code.VALUE_RANGE,
        f"{name} must be between {low:g} and {high:g}, found {value:g}",
        Label(span),
        help=f"write a number between {low:g} and {high:g}",
    )


def unknown_argument(arg: Arg) -> Diagnostic:
    """QR409."""
    return Diagnostic(
        Code.UNKNOWN_SETTING,
        "unknown argument of an optimizer",
        Label(arg.span),
        help="the argument is `lr`",
    )


def without_effect(attr: Attr, tuning: Tuning) -> Diagnostic:
    """QR405."""
    name = attr.name.text
    return Diagnostic(
        Code.ILLEGAL_COMBINATION,
        f"`{name}` has no effect on the solvers {listed(tuning.solvers)}",
        Label(attr.span),
        help="leave it out: rounding to nearest learns nothing",
    )


def unknown_preset(name: Name) -> Diagnostic:
    """QR201."""
    known = [item.preset for item in PRESETS]
    guess = did_you_mean(name.text, [*known, *LATER_PRESETS])
    return Diagnostic(
        Code.UNKNOWN_NAME,
        f"unknown preset `{name.text}`",
        Label(name.span),
        help=guess or f"the presets are {listed(known)}",
    )

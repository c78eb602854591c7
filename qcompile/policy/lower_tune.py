"""The ``tune`` statement: a preset of the engine, with some of its axes moved."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast, get_args

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Span
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.methods import axes
from qcompile.methods.axes import Augment, LossTerm, Optimizer, Select
from qcompile.methods.presets import DEFAULT_PRESET, PRESETS, preset
from qcompile.methods.tuning import Tuning
from qcompile.policy.attributes import Attribute, Settings, Shape, listed, read
from qcompile.policy.expression import Checker
from qcompile.policy.forms import Argument, Filled, Form, number, read_form, read_sum
from qcompile.policy.tune_rules import illegal_products
from qcompile.policy.type_errors import wrong_type
from qcompile.syntax.nodes import Attr, Binary, Name, TuneBlock

TABLE = (
    Attribute("partition", Shape.WORD, choices=get_args(axes.Partition)),
    Attribute("solver", Shape.WORDS, choices=get_args(axes.Solver)),
    Attribute("variable", Shape.WORD, choices=get_args(axes.Variable)),
    Attribute("learn", Shape.WORDS, choices=get_args(axes.Learned)),
    Attribute("loss", Shape.RAW),
    Attribute("regularizer", Shape.RAW),
    Attribute("beta", Shape.RAW),
    Attribute("warmup", Shape.RAW),
    Attribute("drop", Shape.RAW),
    Attribute("augment", Shape.RAW),
    Attribute("select", Shape.RAW),
    Attribute("optimizer", Shape.RAW),
    Attribute("schedule", Shape.WORD, choices=get_args(axes.Schedule)),
    Attribute("steps", Shape.INTEGER, low=1),
    Attribute("batch", Shape.INTEGER, low=1),
    Attribute("samples", Shape.INTEGER, low=1),
    Attribute("seed", Shape.INTEGER),
    Attribute("patience", Shape.INTEGER, low=1),
    Attribute("precision", Shape.WORD, choices=get_args(axes.Precision)),
    Attribute("inputs", Shape.WORD, choices=get_args(axes.Inputs)),
    Attribute("order", Shape.WORD, choices=get_args(axes.Order)),
    Attribute("target", Shape.WORD, choices=get_args(axes.Target)),
)
DEFAULT_STEPS = 1000
FIELDS = {"solver": "solvers"}
"""Settings whose field of ``Tuning`` has another name."""

LOSS_ARGUMENTS: dict[axes.LossName, tuple[Argument, ...]] = {
    "mse": (Argument("p", 1, 10),),
    "prediction": (Argument("T", 0.01, 100, 4), Argument("weight", 0, 1e6, 10)),
    "trimmed": (Argument("share", 0, 0.5, required=True),),
}
LOSSES = tuple(Form(name, LOSS_ARGUMENTS.get(name, ())) for name in get_args(axes.LossName))
PROBABILITY = Argument("probability", 0, 1)
DROPS = (
    Form("none"),
    *(Form(word, (PROBABILITY,)) for word in ("input", "act", "both")),
    Form("gradual", (Argument("probability", 0, 1, 0),)),
)
AUGMENTS = (
    Form("noise", (Argument("amount", 0, 10, required=True),)),
    *map(Form, ("none", "mixup", "cutmix", "distribution_correction")),
)
SELECTS = (
    Form("all"),
    *(
        Form(word, (Argument("share", 1e-6, 1, required=True),))
        for word in ("near_threshold", "salient", "random")
    ),
)
_LR = Argument("lr", 1e-9, 10)
_MOMENTUM = Argument("momentum", 0, 1)
_BETAS = (Argument("beta1", 0, 0.999999), Argument("beta2", 0, 0.999999))
_DECAY = Argument("weight_decay", 0, 10)
OPTIMIZERS = (
    Form("sgd", (_LR, _MOMENTUM, _DECAY)),
    Form("sign_sgd", (_LR, _MOMENTUM)),
    Form("adam", (_LR, *_BETAS)),
    Form("adamw", (_LR, *_BETAS, _DECAY)),
    Form("nadam", (_LR, *_BETAS)),
    Form("adamax", (_LR, *_BETAS)),
    Form("adagrad", (_LR,)),
    Form("rmsprop", (_LR, _MOMENTUM)),
    Form("lion", (_LR, *_BETAS, _DECAY)),
)
REGULARIZER = Argument("regularizer", 1e-6, 1e6)
WARMUP = Argument("warmup", 0, 0.99)
BETA = Argument("beta", 1, 100)


@frozen
class Tuned:
    """What a ``tune`` statement says, and where it says it."""

    tuning: Tuning
    spans: Mapping[str, Span]
    """Of each setting that is written, and of ``preset``."""


def default_tuning() -> Tuning:
    found = preset(DEFAULT_PRESET)
    assert found is not None, "the default preset is one of the presets"
    return found


def lower_tune(node: TuneBlock, checker: Checker) -> Tuned:
    start = _preset(node.preset, checker)
    settings = read(f"`tune {node.preset.text}`", node.attrs, TABLE, checker, node.span)
    written = {row.name: attr for row in TABLE if (attr := settings.attr(row.name)) is not None}
    errors = len(checker.diagnostics)
    tuning = replace(start or default_tuning(), **_update(settings, checker))
    if tuning.takes_steps and not tuning.steps:  # of a preset that takes none
        tuning = replace(tuning, steps=DEFAULT_STEPS)
    spans = {name: attr.span for name, attr in written.items()}
    if start is not None and len(checker.diagnostics) == errors:
        for problem in illegal_products(tuning, spans):
            checker.report(problem)
    return Tuned(tuning, {"preset": node.preset.span, **spans})


def _preset(name: Name, checker: Checker) -> Tuning | None:
    found = preset(name.text)
    if found is None:
        checker.report(unknown_preset(name))
    return found


def _update(settings: Settings, checker: Checker) -> dict[str, Any]:
    """The fields of ``Tuning`` that the statement moves, each checked against its table."""
    update: dict[str, object] = {}
    for row in TABLE:
        attr = settings.attr(row.name)
        field = FIELDS.get(row.name, row.name)
        match row.shape:
            case _ if attr is None:
                continue
            case Shape.WORD:
                update[field] = settings.text(row.name)
            case Shape.WORDS:
                update[field] = settings.items(row.name) or None
            case Shape.INTEGER:
                update[field] = settings.integer(row.name)
            case _:
                update |= _with_arguments(attr, checker)
    return {name: value for name, value in update.items() if value is not None}


def _with_arguments(attr: Attr, checker: Checker) -> dict[str, object]:
    value = attr.value
    match attr.name.text:
        case "loss":
            terms = read_sum(value, "loss", LOSSES, checker)
            return {"loss": tuple(map(_loss, terms))} if terms else {}
        case "drop":
            found = read_form(value, "drop", DROPS, checker)
            return {} if found is None else _drop(found)
        case "augment":
            found = read_form(value, "augment", AUGMENTS, checker)
            return {} if found is None else {"augment": _augment(found)}
        case "select":
            found = read_form(value, "select", SELECTS, checker)
            return {} if found is None else {"select": _select(found)}
        case "optimizer":
            found = read_form(value, "optimizer", OPTIMIZERS, checker)
            return {} if found is None else {"optimizer": _optimizer(found)}
        case "regularizer":
            return {"hardening": number(value, REGULARIZER, checker)}
        case "warmup":
            return {"warmup": number(value, WARMUP, checker)}
        case _:
            return _beta(attr, checker)


def _loss(found: Filled) -> LossTerm:
    return LossTerm(
        cast(axes.LossName, found.word),
        p=found["p"],
        temperature=found["T"],
        weight=found["weight"],
        share=found["share"],
    )


def _drop(found: Filled) -> dict[str, object]:
    return {"drop": found.word, "keep_quantized": found["probability"]}


def _augment(found: Filled) -> Augment:
    return Augment(cast(axes.AugmentName, found.word), found["amount"])


def _select(found: Filled) -> Select:
    return Select(cast(axes.SelectName, found.word), found["share"])


def _optimizer(found: Filled) -> Optimizer:
    return Optimizer(
        cast(axes.OptimizerName, found.word),
        lr=found["lr"],
        momentum=found["momentum"],
        beta1=found["beta1"],
        beta2=found["beta2"],
        weight_decay=found["weight_decay"],
    )


def _beta(attr: Attr, checker: Checker) -> dict[str, object]:
    """``20..2``: exponents of the regularizer, in the order in which they are passed."""
    if not isinstance(attr.value, Binary) or attr.value.op != "..":
        checker.report(wrong_type("two numbers such as `20..2`", "something else", attr.value.span))
        return {}
    first = number(attr.value.left, BETA, checker)
    last = number(attr.value.right, BETA, checker)
    return {"beta_start": first, "beta_end": last}


def unknown_preset(name: Name) -> Diagnostic:
    """QR201."""
    known = [item.preset for item in PRESETS]
    return Diagnostic(
        Code.UNKNOWN_NAME,
        f"unknown preset `{name.text}`",
        Label(name.span),
        help=did_you_mean(name.text, known) or f"the presets are {listed(known)}",
    )

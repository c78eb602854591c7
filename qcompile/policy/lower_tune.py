"""The ``tune`` statement: a preset of the engine, with some of its axes moved."""

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.methods.presets import DEFAULT_PRESET, PRESETS, preset
from qcompile.methods.tuning import Tuning
from qcompile.policy.attributes import Attribute, Settings, Shape, listed, read
from qcompile.policy.expression import Checker
from qcompile.policy.unavailable import not_available
from qcompile.syntax.nodes import Attr, Name, TuneBlock

TABLE = (
    Attribute("partition", Shape.WORD, choices=("layer", "block"), later=("stage", "network")),
    Attribute("solver", Shape.WORDS, choices=("rtn",), later=("gradient", "optq", "gram", "cd")),
    Attribute("steps", Shape.INTEGER, low=0),
    Attribute("batch", Shape.INTEGER, low=1),
    Attribute("seed", Shape.INTEGER),
    Attribute("precision", Shape.WORD, choices=("fp32", "bf16")),
    Attribute("variable", Shape.LATER),
    Attribute("learn", Shape.LATER),
    Attribute("loss", Shape.LATER),
    Attribute("regularizer", Shape.LATER),
    Attribute("drop", Shape.LATER),
    Attribute("augment", Shape.LATER),
    Attribute("select", Shape.LATER),
    Attribute("optimizer", Shape.LATER),
    Attribute("schedule", Shape.LATER),
    Attribute("samples", Shape.LATER),
    Attribute("patience", Shape.LATER),
    Attribute("inputs", Shape.LATER),
)
LEARNING = ("steps", "batch", "precision")
"""Without effect where nothing is learned."""

LATER_PRESETS = (
    *("adaround", "brecq", "qdrop", "pdquant", "signround", "flexround", "genie", "hybrid"),
    *("optq", "adaquant", "lsq"),
)


def default_tuning() -> Tuning:
    found = preset(DEFAULT_PRESET)
    assert found is not None, "the default preset is one of the presets"
    return found


def lower_tune(node: TuneBlock, checker: Checker) -> Tuning:
    start = _preset(node.preset, checker)
    if node.selector is not None:
        way_out = "leave `for` out: the whole model is tuned alike"
        checker.report(not_available("`tune ... for`", node.selector.span, way_out))
    settings = read(f"`tune {node.preset.text}`", node.attrs, TABLE, checker, node.span)
    tuning = _tuned(start, settings)
    if not _learns(tuning):
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
    else:
        checker.report(unknown_preset(name))
    return default_tuning()


def _tuned(start: Tuning, settings: Settings) -> Tuning:
    """Words were checked against the table, so that pydantic has nothing left to refuse."""
    update = {
        "partition": settings.text("partition"),
        "solvers": settings.items("solver") or None,
        "steps": settings.integer("steps"),
        "batch": settings.integer("batch"),
        "seed": settings.integer("seed"),
        "precision": settings.text("precision"),
    }
    given = {name: value for name, value in update.items() if value is not None}
    return Tuning.model_validate({**start.model_dump(), **given})


def _learns(tuning: Tuning) -> bool:
    return set(tuning.solvers) != {"rtn"}


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

"""Products of the engine's axes that have no meaning, as far as the recipe alone tells (QR405).

The rules are those of the methods themselves; a value of ``tune`` is legal alone, and one that the
statement wrote is blamed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.methods.tuning import GRID_PARAMETERS, Tuning
from qcompile.policy.attributes import listed
from qcompile.policy.number_format import (
    BlockFormat,
    CodebookFormat,
    IntFormat,
    PowerFormat,
    terms_of,
)
from qcompile.policy.recipe import Calibration
from qcompile.policy.scheme import COARSE, QuantSlot, Scheme, has_range_to_choose

Spans = Mapping[str, Span]
"""Of the settings that are written."""

OF_STEPS = ("steps", "variable", "optimizer", "schedule", "regularizer", "beta", "warmup")
"""Without effect where no solver takes steps (``gradient``, ``gram``)."""
OF_BLOCKS = (
    *(
        "partition",
        "learn",
        "loss",
        "drop",
        "augment",
        "select",
        "batch",
        "patience",
        "precision",
        "inputs",
    ),
)
"""Without effect where no solver learns a block (``gradient``)."""
OF_GATES = ("regularizer", "beta", "warmup")
"""Without effect on a variable that cannot stop between two codes."""

OF_GRADIENT = ("zero_point", "exponent", "levels", "norm")
"""What the solvers of single layers cannot learn."""


def illegal_products(tuning: Tuning, spans: Spans) -> Iterator[Diagnostic]:
    for rule in RULES:
        yield from rule(tuning, spans)


def _unused(tuning: Tuning, spans: Spans) -> Iterator[Diagnostic]:
    unused = () if tuning.learns else OF_BLOCKS
    if tuning.uses_moments:  # its layers learn scales and biases, and may weigh their rows
        unused = tuple(name for name in unused if name not in ("learn", "loss"))
    else:
        unused = (*unused, "target")
    if not tuning.takes_steps:
        unused = (*OF_STEPS, *unused)
    if not (tuning.learns or tuning.uses_moments):
        unused = (*unused, "samples")
    if "optq" not in tuning.solvers:
        unused = (*unused, "order")
    solvers = listed(tuning.solvers)
    for name in unused:
        if name in spans:
            yield without_effect(name, f"the solvers {solvers}", spans[name])


def _unlearned(tuning: Tuning, spans: Spans) -> Iterator[Diagnostic]:
    """The layer's solvers move the scales of weights and activations, and biases."""
    if "learn" not in spans or tuning.learns or not tuning.uses_moments:
        return
    on = f"the solvers {listed(tuning.solvers)}"
    for name in tuning.learn:
        if name in OF_GRADIENT:
            yield without_effect(f"learn = {name}", on, spans["learn"])


def _losses_of_layers(tuning: Tuning, spans: Spans) -> Iterator[Diagnostic]:
    """The layer's solvers minimise a sum of squares over rows, whatever each row counts."""
    if "loss" not in spans or tuning.learns or not tuning.uses_moments:
        return
    plain = len(tuning.loss) == 1 and tuning.loss[0].weight in (None, 1)
    name, p = tuning.loss[0].name, tuning.loss[0].p
    if not plain or name not in ("mse", "fisher") or p not in (None, 2):
        yield illegal(
            f"the solvers {listed(tuning.solvers)} minimise squares",
            spans["loss"],
            "use `mse` or `fisher`, or add the solver `gradient`",
        )


def _norms_between_layers(tuning: Tuning, spans: Spans) -> Iterator[Diagnostic]:
    where = spans.get("learn") or spans.get("partition")
    if "norm" in tuning.learn and tuning.learns and not tuning.learns_whole and where is not None:
        yield illegal(
            "norms lie between the layers, and a layer is learned alone",
            where,
            "use `partition = block`, or leave `norm` out",
        )


def _gates(tuning: Tuning, spans: Spans) -> Iterator[Diagnostic]:
    if tuning.variable == "gate" or not tuning.takes_steps:
        return
    for name in OF_GATES:
        if name in spans:
            yield without_effect(name, f"the variable `{tuning.variable}`", spans[name])


def _solvers(tuning: Tuning, spans: Spans) -> Iterator[Diagnostic]:
    if "solver" not in spans:
        return
    twice = [s for n, s in enumerate(tuning.solvers) if s in tuning.solvers[:n]]
    if twice:
        yield illegal(
            f"the solver `{twice[0]}` is listed twice", spans["solver"], "keep one of them"
        )
    if "gradient" in tuning.solvers[:-1]:
        yield illegal(
            "`gradient` goes on from what the solvers of single layers have found",
            spans["solver"],
            "put it last",
        )
    if "rtn" in tuning.solvers[1:]:
        yield illegal(
            "`rtn` rounds anew, and loses what the solvers before it found",
            spans["solver"],
            "put it first, or leave it out",
        )


def _gate_on_a_moving_grid(tuning: Tuning, spans: Spans) -> Iterator[Diagnostic]:
    moved = [name for name in tuning.learn if name in GRID_PARAMETERS]
    if not tuning.takes_steps or tuning.variable != "gate" or "rounding" not in tuning.learn:
        return
    if tuning.frozen_base:
        return
    if tuning.uses_moments:  # the layer's solvers fit the scale, and the gates take it as it is
        moved = [name for name in moved if name != "scale"]
    where = spans.get("learn") or spans.get("variable")
    if moved and where is not None:
        yield illegal(
            f"a gate chooses between two fixed neighbours, and `{moved[0]}` would move them",
            where,
            "use `variable = additive`, or leave it out of `learn`",
        )


def _prediction(tuning: Tuning, spans: Spans) -> Iterator[Diagnostic]:
    names = [term.name for term in tuning.loss]
    where = spans.get("loss") or spans.get("partition")
    if "prediction" in names and tuning.partition == "network" and where is not None:
        yield illegal(
            "`prediction` runs the float layers behind what is learned, and behind the whole"
            " network there are none",
            where,
            "use `kl`, or `partition = block`",
        )


def _loss_terms(tuning: Tuning, spans: Spans) -> Iterator[Diagnostic]:
    names = [term.name for term in tuning.loss]
    twice = [name for n, name in enumerate(names) if name in names[:n]]
    if twice and "loss" in spans:
        yield illegal(f"the term `{twice[0]}` stands twice", spans["loss"], "keep one of them")
    if all(term.weight == 0 for term in tuning.loss) and "loss" in spans:
        yield illegal("with weight 0 nothing is left of `loss`", spans["loss"], "add `mse`")


def _mixed_samples(tuning: Tuning, spans: Spans) -> Iterator[Diagnostic]:
    """The derivative of a loss belongs to a sample."""
    of_samples = [term.name for term in tuning.loss if term.name in ("fisher", "fisher_full")]
    mixes = tuning.augment.name in ("mixup", "cutmix")
    where = spans.get("augment") or spans.get("loss")
    if of_samples and mixes and where is not None:
        yield illegal(
            f"`{of_samples[0]}` weighs each sample by its own derivatives, and"
            f" `{tuning.augment.name}` makes new samples",
            where,
            "use `augment = noise(0.1)`, or another loss",
        )


def _nothing_to_drop(tuning: Tuning, spans: Spans) -> Iterator[Diagnostic]:
    where = spans.get("drop") or spans.get("inputs")
    if tuning.inputs == "float" and tuning.drop == "input" and where is not None:
        yield without_effect("drop = input", "`inputs = float`", where)


RULES = (
    *(_unused, _unlearned, _losses_of_layers, _norms_between_layers, _gates, _solvers),
    *(_gate_on_a_moving_grid, _prediction, _loss_terms),
    *(_mixed_samples, _nothing_to_drop),
)


def against_recipe(
    tuning: Tuning, spans: Spans, calibration: Calibration | None, schemes: Iterable[Scheme]
) -> Iterator[Diagnostic]:
    """What the other statements of the recipe leave no room for."""
    available = calibration.samples if calibration else None
    if available and tuning.samples and tuning.samples > available and "samples" in spans:
        yield illegal(
            f"`calibrate` has {available} samples, and `samples` asks for {tuning.samples}",
            spans["samples"],
            "raise `samples` of `calibrate`",
        )
    if calibration and tuning.samples and "samples" in spans:
        batch = tuning.batch if tuning.learns else calibration.batch
        if tuning.samples % batch:
            yield illegal(
                f"`samples = {tuning.samples}` is no whole number of batches of {batch}",
                spans["samples"],
                f"use a multiple of {batch}, or set `batch`",
            )
    if calibration and calibration.groups and tuning.samples and "samples" in spans:
        yield illegal(
            "`samples` takes the first of the data, of which `groups` keeps the last to judge",
            spans["samples"],
            "leave it out, or take fewer `samples` in `calibrate`",
        )
    schemes = list(schemes)
    yield from _nothing_to_learn(tuning, spans, schemes)
    slots = [slot for one in schemes for slot in (one.act, one.act2)]
    acts = [slot for slot in slots if isinstance(slot, QuantSlot)]
    yield from _ranges_of_layers(tuning, spans, acts)
    dynamic = [slot.dynamic for slot in acts]
    if "act_scale" in tuning.learn and "learn" in spans and dynamic and all(dynamic):
        yield illegal(
            "activations with `dynamic` ranges have no scale to learn",
            spans["learn"],
            "leave `act_scale` out, or make a range static",
        )


def _ranges_of_layers(
    tuning: Tuning, spans: Spans, acts: Sequence[QuantSlot]
) -> Iterator[Diagnostic]:
    """The layer's solvers choose coarse ranges of whole tensors, and leave others as observed."""
    if "act_scale" not in tuning.learn or "learn" not in spans or tuning.learns:
        return
    static = [slot for slot in acts if not slot.dynamic]
    if static and not any(map(has_range_to_choose, static)):
        yield illegal(
            f"the solvers {listed(tuning.solvers)} choose ranges of integers of up to {COARSE}"
            " bits, one for a whole tensor, with the observer `mse`",
            spans["learn"],
            "leave `act_scale` out, or add the solver `gradient`",
        )


def _nothing_to_learn(
    tuning: Tuning, spans: Spans, schemes: Sequence[Scheme]
) -> Iterator[Diagnostic]:
    """A parameter that the grid of no weight has."""
    slots = [one.weight for one in schemes if isinstance(one.weight, QuantSlot)]
    for name, has, missing, way_out in PARAMETERS:
        # a preset may learn what some weights have; one that is about levels needs them
        of_preset = spans.get("preset") if name in ("exponent", "levels") else None
        where = spans.get("learn") or of_preset
        if slots and name in tuning.learn and where is not None and not any(map(has, slots)):
            yield illegal(f"no weight {missing}", where, way_out)


def _has_free_scale(slot: QuantSlot) -> bool:
    return not isinstance(terms_of(slot.format)[-1], BlockFormat)


def _has_zero_point(slot: QuantSlot) -> bool:
    return isinstance(slot.format, IntFormat) and not slot.symmetric


def _has_exponent(slot: QuantSlot) -> bool:
    last = terms_of(slot.format)[-1]
    return isinstance(last, PowerFormat) and last.exponent is None


def _has_levels(slot: QuantSlot) -> bool:
    return isinstance(terms_of(slot.format)[-1], CodebookFormat)


PARAMETERS: tuple[tuple[str, Callable[[QuantSlot], bool], str, str], ...] = (
    (
        "scale",
        _has_free_scale,
        "has a scale that may move: those of block formats are one byte",
        "leave `scale` out",
    ),
    (
        "zero_point",
        _has_zero_point,
        "has a zero point to learn: all grids are symmetric",
        "leave `zero_point` out, or write `asymmetric`",
    ),
    (
        "exponent",
        _has_exponent,
        "has an exponent to learn: none is `power2`..`power8`",
        "use a power format, or learn the `scale` in place of the `exponent`",
    ),
    (
        "levels",
        _has_levels,
        "has levels to learn: none is `codebook2`..`codebook8`",
        "use a codebook, or learn the `scale` in place of the `levels`",
    ),
)
"""Of grids: which weights have them, and what to say if none has."""


def illegal(message: str, span: Span, way_out: str) -> Diagnostic:
    """QR405."""
    return Diagnostic(Code.ILLEGAL_COMBINATION, message, Label(span), help=way_out)


def without_effect(name: str, on: str, span: Span) -> Diagnostic:
    """QR405."""
    return illegal(f"`{name}` has no effect on {on}", span, "leave it out")

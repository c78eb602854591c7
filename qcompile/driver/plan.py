"""The third phase: a plan that can be reviewed, saved, and executed exactly."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from qcompile.analysis.compute import compute
from qcompile.data.weights import weights_sha256
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label, has_errors, in_order
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.quantities import several
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.driver.asked_exports import check_asked
from qcompile.driver.bind import Bound, bind, bind_seen
from qcompile.driver.calibration import Calibration, calibration
from qcompile.driver.choose import NOTHING, Progress, choose, not_measurable, unheard
from qcompile.driver.front import check, settled, with_expectations, with_model
from qcompile.driver.measured import Basis, Saved, not_needed
from qcompile.driver.open_plan import before_choosing
from qcompile.driver.recipe_files import (
    closure_texts,
    names_in_plan,
    placed,
    placed_choice,
    placed_tunes,
)
from qcompile.driver.requirements import check_measurable
from qcompile.driver.run_forecast import expected
from qcompile.driver.saved_plan import as_saved, saved_rungs
from qcompile.emit.graph_document import GraphDocument
from qcompile.emit.graph_encode import encode
from qcompile.passes.rotate import rotations
from qcompile.policy.choice import ChoicePlan
from qcompile.policy.core import (
    Beside,
    EvaluationPlan,
    FallbackPlan,
    FileHash,
    OutputPlan,
    ParameterPlan,
    Plan,
    PlanCore,
    SitePlan,
)
from qcompile.policy.fallback import (
    changed_layers,
    changes_nothing,
    fallbacks,
    of_fallback,
    taken_fallback,
    with_fallback,
)
from qcompile.policy.identity import core_sha256
from qcompile.policy.lower import NO_ARGUMENTS
from qcompile.policy.recipe import Output, Recipe, Requirement, on_one_line
from qcompile.policy.resolution import Decision
from qcompile.policy.run_forecast import RunForecast
from qcompile.store.canonical import canonical_json, sha256_hex
from qcompile.targets.names import REFERENCE


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A plan with what it was made from; ``diagnostics`` holds warnings only."""

    plan: Plan
    bound: Bound
    calibration: Calibration | None
    diagnostics: tuple[Diagnostic, ...]
    taken: RunForecast | None = None
    """What a run is expected to take; the plan has it where it was asked for."""
    settle: Callable[[Iterable[Diagnostic]], list[Diagnostic]] = in_order
    """What is to be said in the end of all that was found: with what the text alone has shown,
    and without what the recipe suppresses."""

    def trace(self, path: str) -> Decision:
        """The decision on the site ``path`` with every rule that touched it, in order."""
        decisions = {d.site.key: d for d in self.bound.resolution.decisions}
        if path not in decisions:
            raise CompileError([unknown_site(path, list(decisions))])
        return decisions[path]


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What was read for one plan, and is the same for what its run may fall back to."""

    weights_sha256: str | None
    calibration: Calibration | None


def plan(bound: Bound, data: object | None = None) -> Plan:
    """The plan for ``bound``; ``data`` stands in for the recipe's calibration data.

    Raises ``CompileError`` when data cannot be used or the graph cannot be stored.
    """
    return make_plan(bound, data).plan


def plan_recipe(
    path: Path,
    *,
    trusted: frozenset[str] = frozenset(),
    params: Mapping[str, str] = NO_ARGUMENTS,
    packs: Sequence[str] = (),
    model: str | None = None,
    preview: bool = False,
    forecast: bool = False,
    saved: Plan | None = None,
    measured: Saved | None = None,
    progress: Progress = unheard,
) -> Planned:
    """All phases up to the plan for one recipe file. Raises ``CompileError``.

    ``packs`` are further files whose ``expect`` lines the plan is held to; ``model`` is a reference
    that stands in for the recipe's own; ``preview`` does without weights and data; ``forecast``
    says what a run will take of this machine, which is measured for it once; ``saved`` is a plan
    of the same recipe, of which what was chosen is taken; of ``measured`` it is what was measured.
    """
    checked = check(path, params)
    if checked.recipe is None:
        raise CompileError(list(checked.diagnostics))
    asked = checked.recipe if model is None else with_model(checked.recipe, model)
    if asked.is_library or asked.policy is None:
        raise CompileError([*checked.diagnostics, nothing_to_plan(asked)])
    try:
        recipe = as_saved(with_expectations(asked, packs), saved)
        rungs = None if saved is None else saved_rungs(saved.core)
        bound = bind(recipe, trusted=trusted, preview=preview, rungs=rungs)
        choice = None if saved is None else saved.beside.choice
        planned = make_plan(
            bound, forecast=forecast, choice=choice, measured=measured, progress=progress
        )
    except CompileError as error:
        raise CompileError(settled(checked, error.diagnostics)) from None
    settle = partial(settled, checked)
    warnings = settle(planned.diagnostics)
    if taken_fallback(recipe) is not None:
        warnings = without_unused(warnings)
    return replace(planned, diagnostics=tuple(warnings), settle=settle)


def without_unused(warnings: Iterable[Diagnostic]) -> list[Diagnostic]:
    """What a recipe suppresses may be of its policy, and not of what it falls back to."""
    return [item for item in warnings if item.code is not Code.UNUSED_SUPPRESSION]


def make_plan(
    bound: Bound,
    data: object | None = None,
    *,
    forecast: bool = False,
    choice: ChoicePlan | None = None,
    measured: Saved | None = None,
    progress: Progress = unheard,
    inputs: Inputs | None = None,
    behind: RunForecast | None = None,
    is_judged: bool = True,
) -> Planned:
    """``choice`` is what the rungs of ``bound`` came from; where nothing is chosen yet, it is.

    What ``measured`` has measured is not measured again, and ``inputs`` of another plan of the
    recipe are not read again. ``behind`` is what runs before this plan, and counts towards the
    limits of the budget on a run; ``is_judged`` is false where the plan was held to them before.
    Raises ``CompileError``.
    """
    recipe = bound.recipe
    document, problems = encode(bound.graph)
    if problems:
        raise CompileError(problems)
    read = None if inputs is None else inputs.calibration
    used = None if bound.is_preview else calibration(bound, data, read)
    is_chosen = bound.is_open and not bound.is_preview
    if measured is not None and not is_chosen:
        raise CompileError([not_needed(measured)])
    asked = evaluations(recipe)
    if not bound.is_preview:
        check_measurable(bound, asked)
    if is_chosen:
        known = NOTHING if measured is None else measured.losses(_basis(bound, document, used))
        bound, choice = choose(bound, used, known=known, progress=progress)
        document, _ = encode(bound.graph)
    static = [
        s for s in bound.planned if any(t.slot != "weight" and t.bytes_after for t in s.tensors)
    ]
    if recipe.calibration is None and static:
        raise CompileError([no_static_range(recipe, static[0])])
    moved = next((item for item in bound.transforms if item.needs_data), None)
    if recipe.calibration is None and moved is not None:
        raise CompileError([no_factors(recipe, moved.name)])
    taken, said = expected(bound, used, asked=forecast, behind=behind) if is_judged else (None, [])
    if has_errors(said):
        raise CompileError(said)
    texts = closure_texts(recipe)
    names = names_in_plan(recipe, texts)
    core = PlanCore(
        language=recipe.version,
        tool=_tool(),
        model=recipe.model.reference if recipe.model else type(bound.model).__name__,
        weights=recipe.model.weights if recipe.model else None,
        images=recipe.images,
        recipe=tuple(
            FileHash(name=name, sha256=sha256_hex(text.encode())) for name, text in texts.items()
        ),
        params=tuple(ParameterPlan(name=key, value=value) for key, value in recipe.params.items()),
        graph_sha256=_graph_sha256(document),
        weights_sha256=_weights_sha256(bound) if inputs is None else inputs.weights_sha256,
        data=used.plan if used else None,
        seed=run_seed(recipe),
        transforms=bound.transforms,
        units=bound.forecast,
        sites=placed(bound.planned, names),
        fallback=taken_fallback(recipe),
        tuning=recipe.tuning,
        tunes=placed_tunes(bound.tunes, names),
        evaluations=asked,
        bytes_before=sum(unit.bytes_before for unit in bound.forecast),
        bytes_after=sum(unit.bytes_after for unit in bound.forecast),
    )
    exporting = (core, bound.graph, bound.seen.loaded.description)
    exports = check_asked(recipe.output, *exporting) if recipe.output else []
    if has_errors(exports):
        raise CompileError(exports)
    shared = Inputs(core.weights_sha256, used)
    instead, doubts = _fallbacks(bound, data, shared, taken, forecast=forecast)
    beside = Beside(
        recipe_texts=texts,
        sites_total=len(bound.sites),
        requirements=tuple(on_one_line(item.span) for item in recipe.requirements),
        fallbacks=tuple(instead),
        output=output_plan(recipe.output),
        compute=compute(bound.sites, bound.resolution, rotations(bound.graph)),
        graph=bound.facts,
        choice=placed_choice(choice, names),
        forecast=taken if forecast else None,
    )
    made = Plan(core_sha256=core_sha256(core), core=core, beside=beside)
    open_yet = [not_chosen(bound), *before_choosing(bound)] if bound.is_open else []
    open_yet += not_measurable(choice) if choice else []
    if has_errors(open_yet):
        raise CompileError(in_order(open_yet))
    of_data = used.diagnostics if used else ()
    warnings = [*bound.diagnostics, *open_yet, *of_data, *said, *exports]
    return Planned(made, bound, used, tuple(in_order([*warnings, *doubts])), taken)


def fall_back(planned: Planned, scheme: str, data: object | None = None) -> Planned:
    """The plan that ``else`` of a ``require`` names, instead of ``planned``, which was judged.

    ``data`` as for ``make_plan``. Raises ``CompileError``.
    """
    other = _with_fallback(planned.bound, scheme)
    inputs = Inputs(planned.plan.core.weights_sha256, planned.calibration)
    choice = planned.plan.beside.choice
    try:
        return make_plan(other, data, choice=choice, inputs=inputs, is_judged=False)
    except CompileError as error:
        raise _in_fallback(error, scheme) from None


def _with_fallback(bound: Bound, scheme: str) -> Bound:
    recipe = with_fallback(bound.recipe, scheme)
    try:
        return bind_seen(recipe, bound.seen, trusted=bound.trusted, preview=bound.is_preview)
    except CompileError as error:
        raise _in_fallback(error, scheme) from None


def _in_fallback(error: CompileError, scheme: str) -> CompileError:
    return CompileError([of_fallback(one, scheme) for one in error.diagnostics if one.is_error])


def bound_fallbacks(
    bound: Bound, said: list[Diagnostic]
) -> Iterator[tuple[str, Requirement, Bound]]:
    """What the run may fall back to; what is wrong or doubtful in it goes to ``said``."""
    if taken_fallback(bound.recipe) is not None:
        return
    for scheme, requirement in fallbacks(bound.recipe).items():
        try:
            other = _with_fallback(bound, scheme)
        except CompileError as error:
            said += error.diagnostics
            continue
        said += [of_fallback(item, scheme) for item in other.diagnostics]
        if not changed_layers(bound.planned, other.planned):
            said.append(changes_nothing(requirement))
        yield scheme, requirement, other
        del other  # a graph at a time


def _fallbacks(
    bound: Bound,
    data: object | None,
    inputs: Inputs,
    taken: RunForecast | None,
    *,
    forecast: bool,
) -> tuple[list[FallbackPlan], list[Diagnostic]]:
    """The plans of all, so that no mistake in them is left for later."""
    found: list[FallbackPlan] = []
    said: list[Diagnostic] = []
    for scheme, requirement, other in bound_fallbacks(bound, said):
        try:
            made = make_plan(other, data, forecast=forecast, inputs=inputs, behind=taken)
        except CompileError as error:
            said += _in_fallback(error, scheme).diagnostics
            continue
        taken = made.taken
        one = FallbackPlan(
            scheme=scheme,
            requirement=on_one_line(requirement.span),
            core_sha256=made.plan.core_sha256,
            layers=changed_layers(bound.planned, other.planned),
            bytes_after=made.plan.core.bytes_after,
            seconds=taken.seconds if forecast and taken is not None else None,
        )
        found.append(one)
        said += [of_fallback(item, scheme) for item in made.diagnostics]
        del made, other
    if has_errors(said):
        raise CompileError(in_order(said))
    if found:
        gc.collect()  # a graph and its nodes hold one another
    return found, said


def _basis(bound: Bound, document: GraphDocument, used: Calibration | None) -> Basis:
    return Basis(
        tool=_tool(),
        graph=_graph_sha256(document),
        weights=weights_sha256(bound.weights),
        data=used.plan if used else None,
    )


def _weights_sha256(bound: Bound) -> str | None:
    """Of all that the model has read; nothing in a preview."""
    return None if bound.is_preview else weights_sha256(bound.weights)


def _tool() -> str:
    return f"qcompile {version('qcompile')}"


def _graph_sha256(document: GraphDocument) -> str:
    return sha256_hex(canonical_json(document.model_dump(mode="json")))


def run_seed(recipe: Recipe) -> int:
    """Of ``tune``, else of ``calibrate``, else 0 (QR704 has warned)."""
    if recipe.tuning.seed is not None:
        return recipe.tuning.seed
    return (recipe.calibration.seed or 0) if recipe.calibration else 0


def evaluations(recipe: Recipe) -> tuple[EvaluationPlan, ...]:
    return tuple(
        EvaluationPlan(
            metric=item.metric,
            reference=item.reference,
            batch=item.batch,
            samples=item.samples,
            labels=item.labels,
            mask=item.mask,
            seq_len=item.seq_len,
        )
        for item in recipe.evaluations
    )


def output_plan(output: Output | None) -> OutputPlan:
    if output is None:
        return OutputPlan()
    target = output.target.name if output.target else REFERENCE
    return OutputPlan(formats=output.exports, reports=output.reports, target=target)


def no_static_range(recipe: Recipe, site: SitePlan) -> Diagnostic:
    """QR211: a `set` line made a range static, and there is no data to find it from."""
    return Diagnostic(
        Code.MISSING_STATEMENT,
        f"the activations of `{site.key}` need a range, and there is no `calibrate`",
        Label(recipe.model.span) if recipe.model else None,
        notes=(f"decided by {site.decided_by}: {site.decided_by.text}",),
        help='add `calibrate { data = "..." }`, or make the ranges `dynamic`',
    )


def no_factors(recipe: Recipe, transform: str) -> Diagnostic:
    """QR211: how far channels are to be scaled is found from data."""
    stated = next((item for item in recipe.transforms if item.name == transform), None)
    tune = next((item for item in recipe.tunes if transform in item.tuning.prepare), None)
    by = stated or tune
    preset = recipe.tuning.preset if tune is None else tune.tuning.preset
    what = f"`prepare {transform}`" if stated else f"the preset `{preset}`"
    return Diagnostic(
        Code.MISSING_STATEMENT,
        f"{what} looks at activations, and there is no `calibrate`",
        Label(by.span) if by else None,
        help='add `calibrate { data = "..." }`',
    )


def not_chosen(bound: Bound) -> Diagnostic:
    """QR607."""
    found = [one for one in bound.resolution.decisions if one.ladder]
    rule = found[0].rule
    return Diagnostic(
        Code.NOT_CHOSEN,
        f"a preview measures nothing: {several(len(found), 'layer')} of `choose` "
        f"{'has' if len(found) == 1 else 'have'} the fewest bits here",
        Label(rule.span) if rule else None,
        help="plan without `--preview` to see what the budget chooses",
    )


def unknown_site(path: str, known: list[str]) -> Diagnostic:
    """QR301: ``--trace`` names nothing in the graph."""
    return Diagnostic(
        Code.UNMATCHED_PATTERN,
        f"there is no layer `{path}`",
        subject=path,
        help=did_you_mean(path, known) or "`qcompile select any RECIPE` lists every layer",
    )


def nothing_to_plan(recipe: Recipe) -> Diagnostic:
    """QR211: a library can be checked, but there is nothing to plan."""
    missing, way_out = "policy", "add `policy main { ... }`"
    if recipe.is_library:
        missing, way_out = "model", 'add `model "package.module:factory"`, or say `--model`'
    return Diagnostic(
        Code.MISSING_STATEMENT,
        f"the recipe has no `{missing}`",
        subject=recipe.source.name,
        help=way_out,
    )

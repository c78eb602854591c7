"""From the tree of a file to its meaning, with every check that needs no model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar, cast

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label, has_errors
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Source, Span
from qcompile.policy.attributes import given_twice
from qcompile.policy.closure import Namespace, load_closure
from qcompile.policy.expression import Checker
from qcompile.policy.functions import FUNCTIONS
from qcompile.policy.imports import Loader, StoredTexts
from qcompile.policy.lower_assertion import lower_assertions, lower_requirements
from qcompile.policy.lower_blocks import lower_blocks
from qcompile.policy.lower_budget import check_choices, lower_budget, nothing_to_measure_with
from qcompile.policy.lower_data import lower_calibrate, lower_evaluate
from qcompile.policy.lower_model import lower_model
from qcompile.policy.lower_output import lower_output, lower_target
from qcompile.policy.lower_policy import MAIN, lower_policies
from qcompile.policy.lower_prepare import lower_prepare
from qcompile.policy.lower_scheme import lower_schemes
from qcompile.policy.lower_tunes import lower_tunes
from qcompile.policy.parameters import Arguments, set_by_imports, values
from qcompile.policy.recipe import ChooseScheme, Model, Recipe, Rule
from qcompile.policy.scheme import QuantSlot, Scheme
from qcompile.policy.scope import collect, unused_name
from qcompile.policy.selector import Selector
from qcompile.policy.tune_rules import against_recipe
from qcompile.policy.typed import is_selector
from qcompile.policy.unavailable import unavailable_rules
from qcompile.syntax import nodes
from qcompile.syntax.nodes import RecipeFile, Statement

LANGUAGE = 1

NO_FILES = StoredTexts()
NO_ARGUMENTS: Mapping[str, str] = MappingProxyType({})

N = TypeVar("N")
T = TypeVar("T")


def lower(
    file: RecipeFile,
    source: Source,
    loader: Loader = NO_FILES,
    arguments: Mapping[str, str] = NO_ARGUMENTS,
    tests: RecipeFile | None = None,
) -> tuple[Recipe | None, list[Diagnostic]]:
    """The recipe if there is no error; the list may hold warnings either way.

    ``arguments`` are values of parameters, as text. Imports bring definitions: what an imported
    file says of a model, of data or of what it expects is of that file alone. ``tests`` are further
    expectations, in the recipe's own names.
    """
    newer = _version(file)
    if newer is not None:
        return None, [newer]
    namespaces, diagnostics = load_closure(file, source, loader)
    closure = tuple(one.source for one in namespaces)
    newer = [problem for one in namespaces if (problem := _version(one.file)) is not None]
    if newer:
        return None, newer
    files = (file,)
    if tests is not None:
        files = (file, tests)
        namespaces = (*namespaces, Namespace(tests, tests.span.source, "", ()))
    scope, found = collect(namespaces)
    imported, problems = set_by_imports(namespaces, scope)
    given = Arguments(arguments, imported)
    checker = Checker(scope, FUNCTIONS, given.value)
    recipe = _Lowering(files, checker).recipe(closure)
    diagnostics += [*found, *problems, *given.unknown(scope), *checker.diagnostics]
    return (None if has_errors(diagnostics) else recipe), diagnostics


def _version(file: RecipeFile) -> Diagnostic | None:
    value = file.version.value
    return None if value == LANGUAGE else newer_language(value, file.version.span)


@frozen
class _Lowering:
    """One pass over the statements of a file for each sort of statement."""

    files: tuple[RecipeFile, ...]
    """The recipe, and tests of it."""
    checker: Checker

    def recipe(self, closure: tuple[Source, ...]) -> Recipe:
        checker = self.checker
        params = values(checker.scope, checker)
        selects = self._definitions()
        schemes = lower_schemes(checker)
        policies = lower_policies(checker, schemes.by_name)
        model = self._once(nodes.ModelBlock, "model", lower_model)
        policy = self._policy(tuple(policies), model)
        rules = policies.get(policy, ()) if policy else ()
        target = self._once(nodes.TargetBlock, "target", lower_target)
        budget = self._once(nodes.BudgetBlock, "budget", lower_budget)
        without_data = model is not None and not self._all(nodes.CalibrateBlock)
        tuned, tunes = lower_tunes(self._all(nodes.TuneBlock), checker, not without_data)
        calibration = self._once(nodes.CalibrateBlock, "calibrate", lower_calibrate)
        if model is not None:
            check_choices(budget, rules, schemes.by_name, checker)
        if without_data:
            self._needs_calibration(rules, schemes.by_name)
        for item in (tuned, *tunes):
            used = schemes.by_name.values()
            for problem in against_recipe(item.tuning, item.spans, calibration, used):
                checker.report(problem)
        evaluations = lower_evaluate(self._all(nodes.EvaluateBlock), checker)
        tests = self._all(nodes.Assertion)
        measured = None if model is None else evaluations
        recipe = Recipe(
            source=closure[0],
            closure=closure,
            version=LANGUAGE,
            params=params,
            model=model,
            schemes=schemes.by_name,
            scheme_spans=schemes.spans,
            policy=policy,
            rules=rules,
            selects=selects,
            blocks=self._once(nodes.BlocksBlock, "blocks", lower_blocks) or (),
            transforms=lower_prepare(self._all(nodes.Prepare), checker, self.files[0].version.span),
            calibration=calibration,
            evaluations=evaluations,
            tuning=tuned.tuning,
            tuning_spans=tuned.spans,
            tunes=tunes,
            target=target,
            output=self._once(nodes.OutputBlock, "output", lower_output),
            assertions=lower_assertions(tests, checker),
            requirements=lower_requirements(tests, measured, checker),
            budget=budget,
        )
        if model is not None and not has_errors(checker.diagnostics):
            for definition in checker.scope.unused():
                checker.report(unused_name(definition))
        return replace(recipe, unavailable=(*checker.unavailable, *unavailable_rules(rules)))

    # ---- definitions and tests ----------------------------------------------------------------

    def _definitions(self) -> dict[str, Selector]:
        """The named selectors; every ``let`` and ``select`` is checked, used or not."""
        found: dict[str, Selector] = {}
        definitions = self.checker.scope.definitions
        for name, definition in definitions.items():
            if isinstance(definition.node, nodes.Let | nodes.Select):
                typed = self.checker.define(definition, definition.name.span)
                if definition.word == "select" and typed is not None and is_selector(typed):
                    found[name] = cast(Selector, typed)
        return found

    # ---- the policy that runs -----------------------------------------------------------------

    def _policy(self, names: Sequence[str], model: Model | None) -> str | None:
        definitions = self._all(nodes.PolicyDef)
        if any(node.name.text == MAIN for node in definitions):
            return MAIN
        if len(definitions) == 1:
            return definitions[0].name.text
        if model is not None:
            self.checker.report(no_main_policy(model, definitions))
        return None

    def _needs_calibration(self, rules: Sequence[Rule], schemes: Mapping[str, Scheme]) -> None:
        for rule in rules:
            used = [schemes[name] for name in rule.schemes if name in schemes]
            slots = [slot for scheme in used for slot in (scheme.act, scheme.act2)]
            if isinstance(rule.action, ChooseScheme):
                self.checker.report(nothing_to_measure_with(rule))
                return
            if any(isinstance(slot, QuantSlot) and not slot.dynamic for slot in slots):
                self.checker.report(no_calibration(rule))
                return

    # ---- statements by sort -------------------------------------------------------------------

    def _all(self, sort: type[N]) -> list[N]:
        return [node for one in self.files for node in one.statements if isinstance(node, sort)]

    def _once(self, sort: type[N], word: str, build: Callable[[N, Checker], T | None]) -> T | None:
        """Build the first statement of a sort; a further one is reported, but not built."""
        found = self._all(sort)
        for again in found[1:]:
            self.checker.report(given_twice(word, _span(again), _span(found[0])))
        return build(found[0], self.checker) if found else None


def _span(node: object) -> Span:
    return cast(Statement, node).span


def newer_language(value: int | float, span: Span) -> Diagnostic:
    """QR207."""
    return Diagnostic(
        Code.NEWER_LANGUAGE,
        f"recipe needs language {value}; this qcompile knows {LANGUAGE}",
        Label(span),
        help=f"write `qrecipe {LANGUAGE}`, or install a newer qcompile",
    )


def no_main_policy(model: Model, policies: Sequence[nodes.PolicyDef]) -> Diagnostic:
    """QR211."""
    if not policies:
        return Diagnostic(
            Code.MISSING_STATEMENT,
            "recipe has a model but no policy",
            Label(model.span, "nothing says what to do with it"),
            help=f"add `policy {MAIN} {{ ... }}`",
        )
    return Diagnostic(
        Code.MISSING_STATEMENT,
        f"none of {len(policies)} policies is called `{MAIN}`",
        Label(policies[0].name.span, "one of them"),
        help=f"call the policy that is to run `{MAIN}`",
    )


def no_calibration(rule: Rule) -> Diagnostic:
    """QR211."""
    return Diagnostic(
        Code.MISSING_STATEMENT,
        "static ranges of activations need the statement `calibrate`",
        Label(rule.span, "quantizes activations with static ranges"),
        help='add `calibrate { data = "..." }`, or make the ranges `dynamic`',
    )

"""From the tree of a file to its meaning, with every check that needs no model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal, TypeVar, cast

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label, has_errors
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Source, Span
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.methods.tuning import Tuning
from qcompile.policy.attributes import Attribute, Shape, given_twice, read
from qcompile.policy.closure import Namespace, load_closure
from qcompile.policy.expression import Checker
from qcompile.policy.functions import FUNCTIONS
from qcompile.policy.imports import Loader, StoredTexts
from qcompile.policy.lower_blocks import lower_blocks
from qcompile.policy.lower_data import lower_calibrate, lower_evaluate
from qcompile.policy.lower_model import lower_model
from qcompile.policy.lower_policy import MAIN, lower_policies
from qcompile.policy.lower_scheme import lower_schemes
from qcompile.policy.lower_tune import default_tuning, lower_tune
from qcompile.policy.parameters import Arguments, values
from qcompile.policy.recipe import Assertion, Model, Recipe, Rule, TargetName, UseScheme
from qcompile.policy.scheme import QuantSlot, Scheme
from qcompile.policy.scope import collect, unused_name
from qcompile.policy.selector import Selector
from qcompile.policy.typed import is_selector
from qcompile.policy.unavailable import not_available
from qcompile.syntax import nodes
from qcompile.syntax.nodes import RecipeFile, Statement
from qcompile.targets.names import BUILTIN, SUFFIX, unknown_target

LANGUAGE = 1

DEFAULT_TRANSFORMS = ("fold_bn",)
LATER_TRANSFORMS = (*("equalize", "smoothquant", "awq", "ln_reparam", "rotate", "bias_correction"),)
OUTPUT = (
    Attribute("dir", Shape.TEXT, required=True),
    Attribute("format", Shape.LATER),
    Attribute("report", Shape.LATER),
)

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
    given = Arguments(arguments)
    checker = Checker(scope, FUNCTIONS, given.value)
    recipe = _Lowering(files, checker).recipe(closure)
    diagnostics += [*found, *given.unknown(scope), *checker.diagnostics]
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
        policies = lower_policies(checker)
        model = self._once(nodes.ModelBlock, "model", lambda node: lower_model(node, checker))
        policy = self._policy(tuple(policies), model)
        rules = policies.get(policy, ()) if policy else ()
        self._unavailable()
        target = self._once(nodes.TargetBlock, "target", self._target)
        blocks = self._once(nodes.BlocksBlock, "blocks", lambda node: lower_blocks(node, checker))
        tuning = self._once(nodes.TuneBlock, "tune", lambda node: lower_tune(node, checker))
        calibration = self._once(
            nodes.CalibrateBlock, "calibrate", lambda node: lower_calibrate(node, checker)
        )
        if model is not None and not self._all(nodes.CalibrateBlock):
            self._needs_calibration(rules, schemes.by_name)
            self._tuning_needs_calibration(tuning)
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
            blocks=blocks or (),
            transforms=self._transforms(),
            calibration=calibration,
            evaluations=lower_evaluate(self._all(nodes.EvaluateBlock), checker),
            tuning=tuning or default_tuning(),
            output=self._once(nodes.OutputBlock, "output", self._output),
            assertions=self._assertions(),
            target=target,
        )
        if model is not None and not has_errors(checker.diagnostics):
            for definition in checker.scope.unused():
                checker.report(unused_name(definition))
        return recipe

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

    def _assertions(self) -> tuple[Assertion, ...]:
        found: list[Assertion] = []
        for node in self._all(nodes.Assertion):
            kind = node.kind.text
            if kind not in ("expect", "prefer"):
                way_out = "use `expect` for what is known when the plan is made"
                self.checker.report(not_available(f"`{kind}`", node.kind.span, way_out))
                continue
            claim = self.checker.claim(node.expr)
            reason = node.reason.value if node.reason else None
            if claim is not None:
                severity: Literal["expect", "prefer"] = "expect" if kind == "expect" else "prefer"
                found.append(Assertion(severity, claim, reason, node.span))
        return tuple(found)

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
            scheme = schemes.get(rule.action.scheme) if isinstance(rule.action, UseScheme) else None
            slots = () if scheme is None else (scheme.act, scheme.act2)
            if any(isinstance(slot, QuantSlot) and not slot.dynamic for slot in slots):
                self.checker.report(no_calibration(rule))
                return

    def _tuning_needs_calibration(self, tuning: Tuning | None) -> None:
        for node in self._all(nodes.TuneBlock):
            if tuning is not None and set(tuning.solvers) != {"rtn"}:
                self.checker.report(nothing_to_learn_from(node.preset))

    # ---- single statements --------------------------------------------------------------------

    def _transforms(self) -> tuple[str, ...]:
        seen: dict[str, Span] = {}
        for node in self._all(nodes.Prepare):
            name = node.transform
            if name.text in seen:
                self.checker.report(given_twice(f"prepare {name.text}", name.span, seen[name.text]))
            seen.setdefault(name.text, name.span)
            self._transform(node)
        return DEFAULT_TRANSFORMS

    def _transform(self, node: nodes.Prepare) -> None:
        name = node.transform
        if name.text in LATER_TRANSFORMS:
            way_out = "leave it out: `fold_bn` is the transform there is"
            self.checker.report(not_available(f"`prepare {name.text}`", name.span, way_out))
        elif name.text not in DEFAULT_TRANSFORMS:
            self.checker.report(unknown_transform(name))
        else:
            read(f"`prepare {name.text}`", node.attrs, (), self.checker, node.span)
            if node.selector is not None:
                way_out = "leave `for` out, and `skip` the layers that are to stay as they are"
                what = f"`prepare {name.text} for`"
                self.checker.report(not_available(what, node.selector.span, way_out))

    def _output(self, node: nodes.OutputBlock) -> str | None:
        return read("`output`", node.attrs, OUTPUT, self.checker, node.span).text("dir")

    def _target(self, node: nodes.TargetBlock) -> TargetName:
        target = node.target
        if target.value not in BUILTIN and not target.value.endswith(SUFFIX):
            self.checker.report(replace(unknown_target(target.value), primary=Label(target.span)))
        read("`target`", node.attrs, (), self.checker, node.span)
        return TargetName(target.value, target.span)

    def _unavailable(self) -> None:
        for node in self._all(nodes.BudgetBlock):
            way_out = "leave it out, and test the plan: `expect size <= 60MB`"
            self.checker.report(not_available("`budget`", node.span, way_out))

    # ---- statements by sort -------------------------------------------------------------------

    def _all(self, sort: type[N]) -> list[N]:
        return [node for one in self.files for node in one.statements if isinstance(node, sort)]

    def _once(self, sort: type[N], word: str, build: Callable[[N], T | None]) -> T | None:
        """Build the first statement of a sort; a further one is reported, but not built."""
        found = self._all(sort)
        for again in found[1:]:
            self.checker.report(given_twice(word, _span(again), _span(found[0])))
        return build(found[0]) if found else None


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


def nothing_to_learn_from(preset: nodes.Name) -> Diagnostic:
    """QR211."""
    return Diagnostic(
        Code.MISSING_STATEMENT,
        f"`tune {preset.text}` looks at data and needs the statement `calibrate`",
        Label(preset.span),
        help='add `calibrate { data = "..." }`, or write `tune rtn`',
    )


def unknown_transform(name: nodes.Name) -> Diagnostic:
    """QR201."""
    known = (*DEFAULT_TRANSFORMS, *LATER_TRANSFORMS)
    return Diagnostic(
        Code.UNKNOWN_NAME,
        f"unknown transform `{name.text}`",
        Label(name.span),
        help=did_you_mean(name.text, known) or "write `prepare fold_bn`",
    )

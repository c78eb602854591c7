"""Lark's tree of a file to nodes."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Source
from qcompile.syntax import nodes
from qcompile.syntax.branches import Branch, Child, branches, children, token, tree
from qcompile.syntax.expressions import Expressions


def build_file(root: Branch, source: Source) -> tuple[nodes.RecipeFile, list[Diagnostic]]:
    """Give the file, and what is wrong with its literals (then the file is not to be used)."""
    problems: list[Diagnostic] = []
    builder = Statements(source, problems)
    header, *statements = branches(root)
    version = builder.number(children(header)[0])
    file = nodes.RecipeFile(
        version,
        tuple(builder.statement(branch) for branch in statements),
        source.span(0, len(source.text)),
    )
    return file, problems


class Statements(Expressions):
    """Builds statements and rules; each method takes the branch of the rule it is named after."""

    def statement(self, branch: Branch) -> nodes.Statement:
        return _STATEMENTS[branch.data](self, branch)

    def rule(self, branch: Branch) -> nodes.Rule:
        return _RULES[branch.data](self, branch)

    # ---- names, imports, parameters ---------------------------------------------------------

    def import_stmt(self, branch: Branch) -> nodes.Import:
        path, alias, attrs = children(branch)
        return nodes.Import(
            self.string(path), self.optional_name(alias), self.attrs(attrs), self.span(branch)
        )

    def let_stmt(self, branch: Branch) -> nodes.Let:
        name, value = children(branch)
        return nodes.Let(self.name(name), self.expr(value), self.span(branch))

    def param_stmt(self, branch: Branch) -> nodes.Param:
        name, type_, default, domain = children(branch)
        return nodes.Param(
            self.name(name),
            self.name(type_),
            self.optional(default),
            self.optional(domain),
            self.span(branch),
        )

    def select_stmt(self, branch: Branch) -> nodes.Select:
        name, value = children(branch)
        return nodes.Select(self.name(name), self.expr(value), self.span(branch))

    # ---- blocks of settings -----------------------------------------------------------------

    def model_block(self, branch: Branch) -> nodes.ModelBlock:
        reference, attrs = children(branch)
        return nodes.ModelBlock(self.string(reference), self.attrs(attrs), self.span(branch))

    def target_block(self, branch: Branch) -> nodes.TargetBlock:
        target, attrs = children(branch)
        return nodes.TargetBlock(self.string(target), self.attrs(attrs), self.span(branch))

    def prepare_stmt(self, branch: Branch) -> nodes.Prepare:
        name, selector, attrs = children(branch)
        return nodes.Prepare(
            self.name(name), self.optional(selector), self.attrs(attrs), self.span(branch)
        )

    def calibrate_block(self, branch: Branch) -> nodes.CalibrateBlock:
        label, attrs = children(branch)
        return nodes.CalibrateBlock(self.optional_name(label), self.attrs(attrs), self.span(branch))

    def tune_block(self, branch: Branch) -> nodes.TuneBlock:
        preset, selector, attrs = children(branch)
        return nodes.TuneBlock(
            self.name(preset), self.optional(selector), self.attrs(attrs), self.span(branch)
        )

    def evaluate_block(self, branch: Branch) -> nodes.EvaluateBlock:
        """Name the metric: of ``evaluate "pkg.mod:metric" {...}`` the string is its name."""
        metric, attrs = children(branch)
        name = self.name(metric)
        if token(metric).type == "STRING":
            name = nodes.Name(self.string(metric).value, name.span)
        return nodes.EvaluateBlock(name, self.attrs(attrs), self.span(branch))

    def output_block(self, branch: Branch) -> nodes.OutputBlock:
        (attrs,) = children(branch)
        return nodes.OutputBlock(self.attrs(attrs), self.span(branch))

    # ---- schemes ----------------------------------------------------------------------------

    def scheme_def(self, branch: Branch) -> nodes.SchemeDef:
        name, base, *slots = children(branch)
        return nodes.SchemeDef(
            self.name(name),
            self.optional_ref(base),
            tuple(self._slot(tree(slot)) for slot in slots),
            self.span(branch),
        )

    def _slot(self, branch: Branch) -> nodes.SlotSet | nodes.SlotPatch | nodes.SlotFloat:
        slot, *rest = children(branch)
        name, span = self.name(slot), self.span(branch)
        match branch.data:
            case "slot_set":
                formats, *modifiers = rest
                names = tuple(self.name(child) for child in children(tree(formats)))
                return nodes.SlotSet(name, names, self._modifiers(modifiers), span)
            case "slot_patch":
                return nodes.SlotPatch(name, self._modifiers(rest), span)
            case _:
                return nodes.SlotFloat(name, span)

    def _modifiers(self, found: list[Child]) -> tuple[nodes.Modifier, ...]:
        return tuple(self._modifier(tree(child)) for child in found)

    def _modifier(self, branch: Branch) -> nodes.Modifier:
        word, *rest = children(branch)
        name, span = self.name(word), self.span(branch)
        match branch.data:
            case "option":
                return nodes.Modifier(name, None, self.expr(rest[0]), span)
            case "flag_call":
                return nodes.Modifier(name, self.args(rest[0]), None, span)
            case _:
                return nodes.Modifier(name, None, None, span)

    # ---- policies ---------------------------------------------------------------------------

    def policy_def(self, branch: Branch) -> nodes.PolicyDef:
        name, base, *rules = children(branch)
        return nodes.PolicyDef(
            self.name(name),
            self.optional_ref(base),
            tuple(self.rule(tree(rule)) for rule in rules),
            self.span(branch),
        )

    def use_rule(self, branch: Branch) -> nodes.Use:
        prefix, scheme, selector = children(branch)
        final, optional = self._prefix(prefix)
        return nodes.Use(self.ref(scheme), self.expr(selector), final, optional, self.span(branch))

    def set_rule(self, branch: Branch) -> nodes.SetField:
        prefix, slot, field, value, selector = children(branch)
        final, optional = self._prefix(prefix)
        return nodes.SetField(
            self.optional_name(slot),
            self.name(field),
            self.expr(value),
            self.expr(selector),
            final,
            optional,
            self.span(branch),
        )

    def skip_rule(self, branch: Branch) -> nodes.Skip:
        prefix, selector = children(branch)
        final, optional = self._prefix(prefix)
        return nodes.Skip(self.expr(selector), final, optional, self.span(branch))

    def share_rule(self, branch: Branch) -> nodes.Share:
        what, selector = children(branch)
        return nodes.Share(self.name(what), self.expr(selector), self.span(branch))

    def choose_rule(self, branch: Branch) -> nodes.Choose:
        schemes, selector = children(branch)
        refs = tuple(self.ref(child) for child in children(tree(schemes)))
        return nodes.Choose(refs, self.expr(selector), self.span(branch))

    def include_rule(self, branch: Branch) -> nodes.Include:
        (policy,) = children(branch)
        return nodes.Include(self.ref(policy), self.span(branch))

    def within_rule(self, branch: Branch) -> nodes.Within:
        scope, *rules = children(branch)
        return nodes.Within(
            self.expr(scope), tuple(self.rule(tree(rule)) for rule in rules), self.span(branch)
        )

    def _prefix(self, child: Child) -> tuple[bool, bool]:
        """Whether ``final`` and ``optional`` stand before a rule."""
        words = [] if child is None else [token(word).type for word in children(tree(child))]
        return "FINAL" in words, "OPTIONAL" in words

    # ---- block partition, budget, tests -------------------------------------------------------

    def blocks_block(self, branch: Branch) -> nodes.BlocksBlock:
        rows = tuple(self._block_row(row) for row in branches(branch))
        return nodes.BlocksBlock(rows, self.span(branch))

    def _block_row(self, row: Branch) -> nodes.BlockEach | nodes.BlockGroup | nodes.Attr:
        match row.data:
            case "block_each":
                return nodes.BlockEach(self.expr(children(row)[0]), self.span(row))
            case "block_group":
                name, selector = children(row)
                return nodes.BlockGroup(self.name(name), self.expr(selector), self.span(row))
            case _:
                return self.attr(row)

    def budget_block(self, branch: Branch) -> nodes.BudgetBlock:
        rows = tuple(self._budget_row(row) for row in branches(branch))
        return nodes.BudgetBlock(rows, self.span(branch))

    def _budget_row(self, row: Branch) -> nodes.Limit | nodes.Objective:
        if row.data == "limit":
            return nodes.Limit(self.expr(children(row)[0]), self.span(row))
        direction, value = children(row)
        return nodes.Objective(self.name(direction), self.expr(value), self.span(row))

    def assertion(self, branch: Branch) -> nodes.Assertion:
        kind, value, reason = children(branch)
        return nodes.Assertion(
            self.name(kind),
            self.expr(value),
            self.optional_string(reason),
            None,
            self.span(branch),
        )

    def requirement(self, branch: Branch) -> nodes.Assertion:
        kind, value, otherwise, reason = children(branch)
        return nodes.Assertion(
            self.name(kind),
            self.expr(value),
            self.optional_string(reason),
            self.optional_ref(otherwise),
            self.span(branch),
        )


_STATEMENTS: Mapping[str, Callable[[Statements, Branch], nodes.Statement]] = MappingProxyType(
    {
        "import_stmt": Statements.import_stmt,
        "let_stmt": Statements.let_stmt,
        "param_stmt": Statements.param_stmt,
        "select_stmt": Statements.select_stmt,
        "model_block": Statements.model_block,
        "target_block": Statements.target_block,
        "scheme_def": Statements.scheme_def,
        "policy_def": Statements.policy_def,
        "prepare_stmt": Statements.prepare_stmt,
        "blocks_block": Statements.blocks_block,
        "budget_block": Statements.budget_block,
        "calibrate_block": Statements.calibrate_block,
        "tune_block": Statements.tune_block,
        "evaluate_block": Statements.evaluate_block,
        "output_block": Statements.output_block,
        "assertion": Statements.assertion,
        "requirement": Statements.requirement,
    }
)
_RULES: Mapping[str, Callable[[Statements, Branch], nodes.Rule]] = MappingProxyType(
    {
        "use_rule": Statements.use_rule,
        "set_rule": Statements.set_rule,
        "skip_rule": Statements.skip_rule,
        "share_rule": Statements.share_rule,
        "choose_rule": Statements.choose_rule,
        "include_rule": Statements.include_rule,
        "within_rule": Statements.within_rule,
    }
)

import subprocess
import sys
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from qcompile.diagnostics.source import Source, Span
from qcompile.syntax import nodes
from qcompile.syntax.parse import parse

OK = sorted((Path(__file__).parents[1] / "golden" / "ok").glob("*.qrecipe"))


def recipe(body: str) -> nodes.RecipeFile:
    file, diagnostics = parse(Source("x.qrecipe", f"qrecipe 1\n{body}\n"))
    assert diagnostics == []
    assert file is not None
    return file


def statement(body: str) -> nodes.Statement:
    (only,) = recipe(body).statements
    return only


def expr(text: str) -> nodes.Expr:
    only = statement(f"let a = {text}")
    assert isinstance(only, nodes.Let)
    return only.value


def rules(body: str) -> tuple[nodes.Rule, ...]:
    only = statement(f"policy main {{\n{body}\n}}")
    assert isinstance(only, nodes.PolicyDef)
    return only.rules


def shape(node: object) -> object:
    """A node without its spans, classes by name: what the text says, wherever it stands."""
    if isinstance(node, tuple):
        return tuple(map(shape, node))
    if not is_dataclass(node):
        return node
    kept = [f.name for f in fields(node) if f.name != "span"]
    return (type(node).__name__, *(shape(getattr(node, name)) for name in kept))


def spans(node: object) -> list[Span]:
    if isinstance(node, tuple):
        return [span for item in node for span in spans(item)]
    if not is_dataclass(node) or isinstance(node, Source):
        return []
    if isinstance(node, Span):
        return [node]
    return [span for f in fields(node) for span in spans(getattr(node, f.name))]


def written(node: nodes.Expr) -> str:
    """Operators with explicit parentheses."""
    match node:
        case nodes.Binary(op, left, right):
            return f"({written(left)} {op} {written(right)})"
        case nodes.Unary(op, operand):
            return f"({op} {written(operand)})"
        case _:
            return node.span.text


@pytest.mark.parametrize("path", OK, ids=lambda path: path.stem)
def test_good_recipe_parses_and_every_span_is_inside_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    file, diagnostics = parse(Source(path.name, text))
    assert diagnostics == []
    assert file is not None
    assert all(0 <= span.start <= span.end <= len(text) for span in spans(file))
    starts = [item.span.start for item in file.statements]
    assert starts == sorted(starts)
    assert all(first.span.end <= second.span.start for first, second in pairwise(file.statements))


@pytest.mark.parametrize("path", OK, ids=lambda path: path.stem)
def test_line_ends_do_not_change_the_tree(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    unix, _ = parse(Source("x", text))
    windows, _ = parse(Source("x", text.replace("\n", "\r\n")))
    assert shape(unix) == shape(windows)


@pytest.mark.parametrize("path", OK, ids=lambda path: path.stem)
def test_comments_are_all_kept_with_their_places(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    file, _ = parse(Source(path.name, text))
    assert file is not None
    assert [c.text for c in file.comments] == [c.span.text for c in file.comments]
    assert all(comment.text.startswith("#") for comment in file.comments)
    inside_strings = sum(s.value.count("#") for s in _strings(file))
    assert sum(c.text.count("#") for c in file.comments) + inside_strings == text.count("#")


def _strings(node: object) -> list[nodes.String]:
    if isinstance(node, nodes.String):
        return [node]
    if isinstance(node, tuple):
        return [found for item in node for found in _strings(item)]
    if not is_dataclass(node) or isinstance(node, Span | Source):
        return []
    return [found for f in fields(node) for found in _strings(getattr(node, f.name))]


def test_comment_is_not_looked_for_in_strings_and_ends_before_the_line_end() -> None:
    file, _ = parse(Source("x", 'qrecipe 1 # one\r\nlet a = "# no" # two\r\n## three'))
    assert file is not None
    assert [comment.text for comment in file.comments] == ["# one", "# two", "## three"]


def test_comments_of_one_call_are_not_in_the_next() -> None:
    first, second = recipe("let a = 1 # one"), recipe("let a = 1 # two")
    assert [c.text for c in (*first.comments, *second.comments)] == ["# one", "# two"]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a or b or c", "((a or b) or c)"),
        ("a and b except c and d", "(((a and b) except c) and d)"),
        ("a or b and not c", "(a or (b and (not c)))"),
        ("not not a", "(not (not a))"),
        ("a - b - c + d", "(((a - b) - c) + d)"),
        ("a - (b - c)", "(a - (b - c))"),
        ("a + b * c % d", "(a + ((b * c) % d))"),
        ("-a * b", "((- a) * b)"),
        ("a + 1 <= b and c is d", "(((a + 1) <= b) and (c is d))"),
        ("a or b is c", "(a or (b is c))"),
        ("0 .. n - 1", "(0 .. (n - 1))"),
        ("f(a or b) or c", "(f(a or b) or c)"),
    ],
)
def test_operators_bind_as_documented_and_from_the_left(text: str, meaning: str) -> None:
    assert written(expr(text)) == meaning


def test_span_of_a_chain_covers_its_parentheses_and_nothing_more() -> None:
    chain = expr("(a or b) and (c) # (")
    assert isinstance(chain, nodes.Binary)
    assert chain.span.text == "(a or b) and (c)"
    assert chain.left.span.text == "a or b"
    left = expr("a or b or c")
    assert isinstance(left, nodes.Binary)
    assert left.left.span.text == "a or b"


def test_comparisons_do_not_chain() -> None:
    file, diagnostics = parse(Source("x", "qrecipe 1\nexpect 1 < a < 3\n"))
    assert file is None
    assert [item.code.number for item in diagnostics] == ["QR101"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("20_000", 20000), ("0.5", 0.5), ("1e-3", 0.001), ("2.5E2", 250.0), ("007", 7)],
)
def test_number_has_the_type_it_was_written_in(text: str, value: float) -> None:
    number = expr(text)
    assert isinstance(number, nodes.Number)
    assert (number.value, type(number.value)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [("60MB", 60, "MB"), ("99.9%", 99.9, "%"), ("1_000k", 1000, "k"), ("3e", 3, "e")],
)
def test_unit_is_attached_to_its_number(text: str, value: float, unit: str) -> None:
    quantity = expr(text)
    assert isinstance(quantity, nodes.Quantity)
    assert (quantity.value, quantity.unit) == (value, unit)


@pytest.mark.parametrize("text", ["60MB2", "1.2.3", "1.", "0x10", "5%x", "1e5MB"])
def test_malformed_number_is_refused(text: str) -> None:
    assert parse(Source("x", f"qrecipe 1\nlet a = {text}\n"))[0] is None


def test_range_of_whole_numbers_is_not_a_decimal_number() -> None:
    assert written(expr("2..8")) == "(2 .. 8)"


def test_string_resolves_its_escapes_and_regex_keeps_them() -> None:
    string, regex = expr(r'"a\"b\\c\n\t#"'), expr(r're"^a\.b\"$"')
    assert isinstance(string, nodes.String)
    assert isinstance(regex, nodes.Regex)
    assert string.value == 'a"b\\c\n\t#'
    assert regex.pattern == r"^a\.b\"$"


def test_values_of_every_kind() -> None:
    assert shape(expr("[true, bias, float, x.y,]")) == (
        "ListExpr",
        (("Bool", True), ("SlotRef", "bias"), ("FloatWord",), ("Ref", ("x", "y"))),
    )
    assert shape(expr("f(1, weight=2)")) == (
        "Call",
        ("Ref", ("f",)),
        (
            ("Arg", None, ("Number", 1)),
            ("Arg", ("Name", "weight"), ("Number", 2)),
        ),
    )
    assert shape(expr("[]")) == ("ListExpr", ())
    assert shape(expr("f()")) == ("Call", ("Ref", ("f",)), ())


def test_record_holds_typed_shapes_on_one_line_or_many() -> None:
    one = statement('model "m" { inputs = { ids = int64[batch, seq], mask = int64[b] } }')
    many = statement('model "m" {\n inputs = {\n ids = int64[batch, seq],\n mask = int64[b]\n }\n}')
    assert shape(one) == shape(many)
    assert isinstance(one, nodes.ModelBlock)
    record = one.attrs[0].value
    assert isinstance(record, nodes.Record)
    assert [attr.name.text for attr in record.attrs] == ["ids", "mask"]
    first = record.attrs[0].value
    assert isinstance(first, nodes.Index)
    assert shape(first.args[0]) == ("Arg", None, ("Ref", ("batch",)))
    assert record.span.text.startswith("{ ids")
    assert record.span.text.endswith("}")


def test_rules_carry_their_prefixes_in_either_order() -> None:
    found = rules("use a for b; final use a for b; optional skip b; final optional skip b")
    found += rules("optional final set weight.bits = 8 for b; set untie = true for b")
    flags = [
        (rule.final, rule.optional)
        for rule in found
        if isinstance(rule, nodes.Use | nodes.Skip | nodes.SetField)
    ]
    expected = [(False, False), (True, False), (False, True)] + [(True, True)] * 2
    assert flags == [*expected, (False, False)]


def test_set_takes_a_field_with_or_without_a_slot() -> None:
    first, second = rules("set weight.bits = 8 for conv\nset untie = true for conv")
    assert isinstance(first, nodes.SetField)
    assert isinstance(second, nodes.SetField)
    assert first.slot is not None
    assert (first.slot.text, first.field.text) == ("weight", "bits")
    assert (second.slot, second.field.text) == (None, "untie")


def test_within_nests_its_rules() -> None:
    (outer,) = rules('within "a.**" {\n use x for y\n within b { skip c }\n}')
    assert isinstance(outer, nodes.Within)
    inner = outer.rules[1]
    assert isinstance(inner, nodes.Within)
    assert isinstance(inner.rules[0], nodes.Skip)


def test_remaining_rules() -> None:
    share, choose, include = rules("share scale for add; choose a, b.c for d; include lib.base")
    assert isinstance(share, nodes.Share)
    assert share.what.text == "scale"
    assert isinstance(choose, nodes.Choose)
    assert [ref.text for ref in choose.schemes] == ["a", "b.c"]
    assert isinstance(include, nodes.Include)
    assert include.policy.text == "lib.base"


def test_scheme_slots_hold_formats_and_modifiers() -> None:
    scheme = statement(
        "scheme a extends b { weight int2 + int4 per_group(128) observer=mse symmetric\n"
        "act with bits=8; bias float }"
    )
    assert isinstance(scheme, nodes.SchemeDef)
    weight, act, bias = scheme.slots
    assert isinstance(weight, nodes.SlotSet)
    assert [name.text for name in weight.formats] == ["int2", "int4"]
    kinds = [(m.name.text, m.args is not None, m.value is not None) for m in weight.modifiers]
    assert kinds == [
        ("per_group", True, False),
        ("observer", False, True),
        ("symmetric", False, False),
    ]
    assert isinstance(act, nodes.SlotPatch)
    assert isinstance(bias, nodes.SlotFloat)


def test_require_may_name_a_ladder_and_a_reason() -> None:
    found = statement('require accuracy_drop <= 1% else std.w8a8, "traffic"')
    assert isinstance(found, nodes.Assertion)
    assert found.otherwise is not None
    assert found.reason is not None
    assert (found.kind.text, found.otherwise.text) == ("require", "std.w8a8")
    assert found.reason.value == "traffic"
    assert parse(Source("x", "qrecipe 1\nexpect a else b"))[0] is None


def test_evaluate_names_a_metric_or_refers_to_one() -> None:
    named, referred = recipe('evaluate top1 { batch = 1 }\nevaluate "a.b:c" { }').statements
    assert isinstance(named, nodes.EvaluateBlock)
    assert isinstance(referred, nodes.EvaluateBlock)
    assert (named.metric.text, referred.metric.text) == ("top1", "a.b:c")


def test_prepare_and_tune_take_optional_selectors_and_settings() -> None:
    found = recipe('prepare fold_bn\nprepare awq for "x" { grid = 3 }\ntune a\ntune b for c { }')
    parts = [
        (item.selector is not None, len(item.attrs))
        for item in found.statements
        if isinstance(item, nodes.Prepare | nodes.TuneBlock)
    ]
    assert parts == [(False, 0), (True, 1), (False, 0), (True, 0)]


def test_statements_end_at_semicolons_too() -> None:
    assert len(recipe("let a = 1; let b = 2;; let c = 3;").statements) == 3


def test_line_that_starts_with_an_operator_word_continues_across_comments() -> None:
    (rule,) = rules("skip a # and so on\n\n  # or a comment\n  or b\n# x\n except c")
    assert isinstance(rule, nodes.Skip)
    assert written(rule.selector) == "(a or (b except c))"


def test_word_that_only_begins_like_an_operator_does_not_continue() -> None:
    assert len(recipe("let a = 1\nlet order = 2").statements) == 2
    assert len(rules("skip a\nset untie = true for organ")) == 2


def test_version_is_kept_whatever_it_is() -> None:
    file, _ = parse(Source("x", "\n# head\n\nqrecipe 7"))
    assert file is not None
    assert file.version.value == 7


def test_front_end_loads_no_torch() -> None:
    code = (
        "import sys; import qcompile.syntax.parse, qcompile.syntax.read;"
        "heavy = {'torch', 'numpy', 'networkx', 'safetensors'};"
        "assert not heavy & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

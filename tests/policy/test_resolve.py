import pytest

from qcompile.policy.change import Field
from qcompile.policy.resolve import resolve
from qcompile.policy.scheme import Clip, FloatSlot, MinMax, Mse, PerChannel, PerGroup
from qcompile.policy.site import Kind
from tests.policy.compiled import compiled, marked, recipe_of, site, small_cnn

SCHEMES = """
scheme w4a4 { weight int4; act int4 }
scheme w8a8 { weight int8; act int8 symmetric }
scheme w8 { weight int8 }
scheme two { act int8; act2 int6 }
"""


def resolved(rules, sites=None, more=""):
    recipe = recipe_of(f"{SCHEMES}{more}policy main {{\n{rules}\n}}")
    resolution, diagnostics = resolve(recipe, small_cnn() if sites is None else sites)
    return {one.site.path: one for one in resolution.decisions}, diagnostics


def test_last_match_wins_with_its_whole_scheme():
    found, diagnostics = resolved("use w4a4 for conv\nuse w8 for first(conv)")
    assert diagnostics == []
    assert (found["conv1"].scheme, found["layer.0.conv1"].scheme) == ("w8", "w4a4")
    assert found["conv1"].slots["act"] == FloatSlot()
    assert found["conv1"].rule.span.text == "use w8 for first(conv)"


def test_nothing_matched_and_skipped_are_told_apart():
    found, _ = resolved("use w8 for any\nuse w8 for conv\nskip first(conv)")
    assert found["conv1"].is_skipped
    assert not found["conv1"].is_quantized
    found, _ = resolved("use w8 for conv")
    assert found["fc"].is_untouched
    assert not found["fc"].is_skipped


def test_slots_without_a_tensor_are_float():
    found, _ = resolved("use w4a4 for any")
    assert [name for name, _ in found["layer.0.add"].quantized] == ["act", "act2"]
    assert [name for name, _ in found["fc"].quantized] == ["weight", "act"]


def test_set_changes_one_field_of_what_has_won():
    found, diagnostics = resolved(
        "use w4a4 for conv\nset weight.bits = 8 for depthwise\nset weight.group_size = 2 for conv"
    )
    assert diagnostics == []
    weight = found["layer.0.conv2"].slots["weight"]
    assert (weight.bits, weight.granularity, weight.observer) == (8, PerGroup(size=2), Mse())
    assert found["conv1"].slots["weight"].bits == 4
    lines = [rule.span.text for rule in found["layer.0.conv2"].patched_by("weight")]
    assert lines == ["set weight.bits = 8 for depthwise", "set weight.group_size = 2 for conv"]
    assert found["layer.0.conv2"].patched_by("act") == ()


def test_use_forgets_earlier_patches():
    found, diagnostics = resolved(
        "use w4a4 for conv\nset weight.bits = 8 for conv\nuse w4a4 for conv"
    )
    assert found["conv1"].slots["weight"].bits == 4
    assert found["conv1"].patches == {}
    assert marked(diagnostics) == [
        ("QR303", "use w4a4 for conv"),
        ("QR303", "set weight.bits = 8 for conv"),
    ]


def test_act_reaches_the_second_operand_while_it_follows():
    found, _ = resolved("use w4a4 for add\nset act.bits = 6 for add")
    slots = found["layer.0.add"].slots
    assert (slots["act"].bits, slots["act2"].bits) == (6, 6)
    found, _ = resolved("use two for add\nset act.bits = 3 for add")
    slots = found["layer.0.add"].slots
    assert (slots["act"].bits, slots["act2"].bits) == (3, 6)


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("set act.symmetric = true", Field.SYMMETRIC, True),
        ("set act.granularity = per_channel(-1)", Field.GRANULARITY, PerChannel(axis=-1)),
        ("set act.axis = 1", Field.GRANULARITY, PerChannel(axis=1)),
        ("set act.observer = mse(p=3)", Field.OBSERVER, Mse(p=3)),
        ("set act.dynamic = true", Field.DYNAMIC, True),
    ],
)
def test_every_field_can_be_set(line, field, value):
    found, diagnostics = resolved(f'use w4a4 for linear\n{line} for "fc"')
    assert diagnostics == []
    assert getattr(found["fc"].slots["act"], field.value) == value
    assert [key for key in found["fc"].patches] == [("act", field)]


@pytest.mark.parametrize("line", ["set act.dynamic = true", "set act.granularity = per_token"])
@pytest.mark.parametrize(
    ("before", "kept"), [("clip(0.9)", Clip(share=0.9)), ("percentile(99)", MinMax())]
)
def test_a_range_of_run_time_keeps_the_observer_that_it_can_have(line, before, kept):
    lines = f'use w4a4 for linear\nset act.observer = {before} for "fc"\n{line} for "fc"'
    found, diagnostics = resolved(lines)
    assert diagnostics == []
    assert found["fc"].slots["act"].observer == kept


@pytest.mark.parametrize(
    "lines",
    [
        "set weight.bits = 8 for conv",
        "use w8 for conv\nskip conv\nset weight.bits = 8 for conv",
        "use w8 for conv\nset act.bits = 4 for conv",
        "use w8 for conv\nset weight.bits = 8 for add",
    ],
)
def test_set_needs_something_to_change(lines):
    _, diagnostics = resolved(lines)
    assert ("QR306", lines.splitlines()[-1]) in marked(diagnostics)


def test_set_leaves_sites_without_the_tensor_alone():
    found, diagnostics = resolved('use w8 for any\nset weight.bits = 4 for "layer.**"')
    assert marked(diagnostics) == [("QR307", "any")]
    assert found["layer.0.conv1"].slots["weight"].bits == 4


def test_set_is_checked_against_the_scheme_it_meets():
    _, diagnostics = resolved("use w8a8 for conv\nset act.axis = 1 for conv\n"
                              "set act.dynamic = true for conv")  # fmt: skip
    assert marked(diagnostics) == [("QR405", "set act.dynamic = true for conv")]


@pytest.mark.parametrize(
    ("lines", "final", "later"),
    [
        ("final use w8 for first(conv)\nuse w4a4 for conv", 0, 1),
        ("final use w8 for first(conv)\nset weight.bits = 4 for conv", 0, 1),
        ("use w8 for conv\nfinal skip first(conv)\nuse w8 for conv", 1, 2),
        ("use w8 for conv\nfinal set weight.bits = 3 for conv\nset weight.bits = 4 for conv", 1, 2),
        ("use w8 for conv\nfinal set weight.bits = 3 for conv\nskip conv", 1, 2),
        ("final use w8 for conv\nfinal use w4a4 for conv", 0, 1),
    ],
)
def test_final_forbids_later_change(lines, final, later):
    found, diagnostics = resolved(lines)
    (violation,) = [one for one in diagnostics if one.code.number == "QR304"]
    lines = lines.splitlines()
    assert violation.primary.span.text == lines[later]
    assert [label.span.text for label in violation.secondary] == [lines[final]]
    assert violation.notes[0] == "conv1"
    weight = found["conv1"].slots["weight"]
    assert weight == FloatSlot() if "skip first" in lines[final] else weight.bits in (3, 8)


@pytest.mark.parametrize(
    "lines",
    [
        "final use w8 for first(conv)\nuse w8 for conv",
        "use w8 for conv\nfinal set weight.bits = 3 for conv\nset weight.observer = lsq for conv",
        "final use w8 for first(conv)\nset weight.bits = 8 for first(conv)",
        "final use w8 for first(conv)\nuse w4a4 for linear",
    ],
)
def test_final_allows_what_leaves_it_as_it_is(lines):
    assert not [one for one in resolved(lines)[1] if one.is_error]


def test_unreachable_rule_names_the_lines_that_decide():
    _, (warning,) = resolved("use w8 for conv\nuse w4a4 for first(conv)\n"
                             "use w8a8 for conv except first(conv)")  # fmt: skip
    assert warning.primary.span.text == "use w8 for conv"
    assert [label.span.text for label in warning.secondary] == [
        "use w4a4 for first(conv)",
        "use w8a8 for conv except first(conv)",
    ]
    assert "all 5 sites" in warning.message


def test_overridden_rule_of_an_included_policy_is_no_warning():
    more = "policy base { use w8 for conv }\n"
    _, diagnostics = resolved("include base\nuse w4a4 for conv", more=more)
    assert diagnostics == []


def test_include_extends_and_within_are_worked_into_order():
    more = "policy base { use w8 for conv or linear }\npolicy cut { skip conv }\n"
    found, diagnostics = resolved(
        'include base\nwithin "layer.**" {\nwithin "layer.1.**" { include cut }\n'
        "use w4a4 for depthwise\n}",
        more=more,
    )
    assert diagnostics == []
    schemes = {path: one.scheme for path, one in found.items()}
    assert schemes == {
        "conv1": "w8",
        "layer.0.conv1": "w8",
        "layer.0.conv2": "w4a4",
        "layer.0.add": None,
        "layer.1.conv1": None,
        "layer.1.conv2": "w4a4",
        "layer.1.add": None,
        "fc": "w8",
    }


def test_trace_lists_every_rule_that_met_the_site():
    found, _ = resolved("use w8 for any\nuse w4a4 for conv\nset weight.bits = 3 for first(conv)")
    steps = [(step.rule.action.__class__.__name__, step.won) for step in found["conv1"].trace]
    assert steps == [("UseScheme", False), ("UseScheme", True), ("SetField", True)]
    assert [step.won for step in found["fc"].trace] == [True]


def test_notes_list_five_paths_and_count_the_rest():
    sites = [site(index, f"l.{index}", Kind.LINEAR) for index in range(9)]
    _, diagnostics = resolved("set weight.bits = 4 for linear", sites)
    assert diagnostics[0].notes == ("l.0", "l.1", "l.2", "l.3", "l.4", "and 4 more")


def test_rule_reference_has_place_and_text():
    found, _ = resolved("use w8 for conv\n  or linear")
    reference = found["fc"].rule.reference
    assert (reference.file, reference.line, reference.column) == ("r.qrecipe", 8, 1)
    assert reference.text == "use w8 for conv or linear"


def test_policies_that_include_each_other_are_a_cycle():
    _, diagnostics = compiled("policy main { include rest }\npolicy rest { include main }")
    assert marked(diagnostics) == [("QR203", "rest")]


def test_includes_cannot_multiply_without_bound():
    steps = "\n".join(f"policy p{n + 1} {{ include p{n}; include p{n} }}" for n in range(40))
    _, diagnostics = compiled(f"{SCHEMES}policy p0 {{ use w8 for any }}\n{steps}")
    assert diagnostics
    assert {item.code.number for item in diagnostics} == {"QR120"}

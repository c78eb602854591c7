import pytest

from qcompile.policy.resolve import resolve
from qcompile.policy.selection import evaluate
from tests.policy.compiled import W8, compiled, marked, recipe_of, small_cnn

SITES = small_cnn()
PATHS = [site.path for site in SITES]
BOTH = ["layer.0", "layer.1"]


def selected(text, before=""):
    recipe = recipe_of(f"{before}\nselect s = {text}\n")
    return [PATHS[index] for index in sorted(evaluate(recipe.selects["s"], SITES))]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("any", PATHS),
        ("linear", ["fc"]),
        ('"fc"', ["fc"]),
        ('"layer.0"', []),
        ('"layer.*"', []),
        ('"layer.0.**"', [f"layer.0.{x}" for x in ("conv1", "conv2", "add")]),
        ('inside("layer.0")', [f"layer.0.{x}" for x in ("conv1", "conv2", "add")]),
        ('inside("layer") and add', [f"{b}.add" for b in BOTH]),
        ('children("layer")', []),
        ('children("layer.*") and depthwise', [f"{b}.conv2" for b in BOTH]),
        (r're"layer\.\d\.add"', [f"{b}.add" for b in BOTH]),
        ("first(conv)", ["conv1"]),
        ("last(conv)", ["layer.1.conv2"]),
        ("nth(conv, 1)", ["layer.0.conv1"]),
        ("nth(conv, -2)", ["layer.1.conv1"]),
        ("nth(conv, 9)", []),
        ("first(softmax)", []),
        ("depthwise", [f"{b}.conv2" for b in BOTH]),
        ("kernel == [1, 1]", [f"{b}.conv1" for b in BOTH]),
        ("kernel != [1, 1] and conv", ["conv1", "layer.0.conv2", "layer.1.conv2"]),
        ("in_features % 8 != 0", ["conv1"]),
        ("in_features / 2 == 8", ["fc"]),
        ("in_features * 2 - 1 == 31", ["fc"]),
        ("-in_features < -15", ["fc"]),
        ("groups % (in_features - in_features) == 0", []),
        ("params > 1M", ["fc"]),
        ("macs >= 0.5k", ["fc"]),
        ("not conv except add", ["fc"]),
        ("conv or linear except inside(\"layer\")", ["conv1", *[
            f"{b}.conv{n}" for b in BOTH for n in (1, 2)], "fc"]),
        ("(conv or linear) except inside(\"layer\")", ["conv1", "fc"]),
        ('type("torch.nn.Conv2d") and not inside("layer.**")', ["conv1"]),
        ('op("operator.add")', [f"{b}.add" for b in BOTH]),
        ('"layer.0.conv2" .. "layer.1.conv1"', [
            "layer.0.conv2", "layer.0.add", "layer.1.conv1"]),
    ],
)  # fmt: skip
def test_selector_selects(text, paths):
    assert selected(text) == paths


def test_names_stand_for_their_selectors_and_numbers():
    before = 'let wide = 2 * 8\nlet there = "layer.1"\nselect dw = depthwise'
    assert selected("in_features >= wide", before) == ["fc"]
    assert selected("inside(there) and dw", before) == ["layer.1.conv2"]


def test_definition_used_twice_at_each_step_is_evaluated_once():
    steps = "\n".join(f"select s{n + 1} = s{n} or not s{n}" for n in range(30))
    recipe = recipe_of(f"select s0 = conv\n{steps}")
    assert len(evaluate(recipe.selects["s30"], SITES)) == len(SITES)


def test_definitions_nested_too_deep_are_refused():
    steps = "\n".join(f"select s{n + 1} = not s{n}" for n in range(300))
    _, diagnostics = compiled(f"select s0 = conv\n{steps}")
    assert {item.code.number for item in diagnostics} == {"QR120"}


def test_long_row_of_alternatives_is_no_nesting():
    row = " or ".join(f'"l.{n}"' for n in range(100))
    assert selected(f'{row} or "fc"') == ["fc"]


@pytest.mark.parametrize(
    ("rule", "code", "text", "help"),
    [
        ('use w8 for "fcc"', "QR301", '"fcc"', "`fc`"),
        ('use w8 for conv except "head"', "QR301", '"head"', "optional"),
        (r'use w8 for "fc|head"', "QR301", '"fc|head"', 're"fc|head"'),
        ('use w8 for "re:.*conv1"', "QR301", '"re:.*conv1"', 're".*conv1"'),
        ('use w8 for "layer.0"', "QR301", '"layer.0"', 'inside("layer.0")'),
        ('use w8 for inside("fc")', "QR301", 'inside("fc")', 'write "fc"'),
        ('use w8 for type("torch.nn.Conv1d")', "QR301", 'type("torch.nn.Conv1d")', "Conv2d"),
        ("use w8 for embedding", "QR302", "embedding", "optional"),
        ('use w8 for depthwise and "fc"', "QR302", 'depthwise and "fc"', "optional"),
        ('within "fc" { use w8 for conv }', "QR302", "conv", "optional"),
    ],
)
def test_rule_that_selects_nothing_is_an_error_unless_optional(rule, code, text, help):
    recipe = recipe_of(f"{W8}policy main {{ {rule} }}")
    _, diagnostics = resolve(recipe, SITES)
    assert marked(diagnostics) == [(code, text)]
    assert help in diagnostics[0].help
    if rule.startswith("use"):
        recipe = recipe_of(f'{W8}policy main {{ optional {rule}; use w8 for "conv1" }}')
        assert resolve(recipe, SITES)[1] == []


def test_parts_of_an_empty_selection_are_counted():
    recipe = recipe_of(W8 + 'policy main { use w8 for depthwise and "fc" }')
    (diagnostic,) = resolve(recipe, SITES)[1]
    assert diagnostic.notes == (
        "`depthwise` selects 2 sites",
        '`"fc"` selects 1 site',
        "together they select none",
    )

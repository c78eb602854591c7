import pytest

from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source

HEAD = "qrecipe 1\nscheme a { weight int8 }\nscheme b { weight int4 }\npolicy main {\n"


def shadowed(*lines):
    body = "".join(f"  {line}\n" for line in lines)
    checked = check_source(Source("recipe", f"{HEAD}{body}}}\n"))
    assert checked.recipe is not None, checked.diagnostics
    return [d.primary.span.text for d in checked.diagnostics if d.code.number == "QR303"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('use a for "layer4.**"', 'use b for "layer*.**"'),
        ('use a for "layer4.conv"', "use b for any"),
        ("use a for conv", "use b for conv or linear"),
        ('use a for conv and "layer1.**"', "use b for conv"),
        ("set weight.bits = 8 for conv", "use b for conv"),
        ("use a for conv", "skip conv"),
        ('use a for "a.b" or "a.c"', 'use b for "a.{b,c}"'),
        ("use a for in_features > 64", "use b for in_features > 64"),
    ],
)
def test_what_a_later_rule_always_takes_is_reported_without_a_model(first, second):
    lines = ["use a for linear or conv", first] if first.startswith("set") else [first]
    assert shadowed(*lines, second)[-1] == first


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('use b for "layer*.**"', 'use a for "layer4.**"'),
        ("use a for conv", "set weight.bits = 4 for conv"),
        ("use a for conv", 'use b for "layer1.**"'),
        ('use a for "layer1.*"', 'use b for "layer1.*.conv"'),
        ("final use a for conv", "use a for conv"),
        ("use a for in_features > 64", "use b for in_features > 65"),
    ],
)
def test_what_some_model_may_reach_is_not(first, second):
    assert shadowed(first, second) == []

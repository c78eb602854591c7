import pytest

from qcompile.policy.scheme import (
    FloatSlot,
    IntFormat,
    Lsq,
    MinMax,
    Mse,
    Percentile,
    PerChannel,
    PerGroup,
    PerTensor,
    PerToken,
    QuantSlot,
)
from tests.policy.compiled import compiled, marked, recipe_of


def scheme(lines, name="s"):
    return recipe_of(lines if "scheme" in lines else f"scheme s {{ {lines} }}").schemes[name]


def spec(bits, granularity, *, signed=True, symmetric, observer=None, dynamic=False):
    number = IntFormat(bits=bits, signed=signed)
    return QuantSlot(
        format=number,
        symmetric=symmetric,
        granularity=granularity,
        observer=observer or Mse(),
        dynamic=dynamic,
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("weight int4", spec(4, PerChannel(), symmetric=True)),
        ("weight uint4", spec(4, PerChannel(), signed=False, symmetric=False)),
        ("weight int4 asymmetric", spec(4, PerChannel(), symmetric=False)),
        ("weight int3 per_group(16)", spec(3, PerGroup(size=16), symmetric=True)),
        ("weight int4 per_channel(1) bits=6", spec(6, PerChannel(axis=1), symmetric=True)),
        ("weight int4 observer=mse(p=3.5)", spec(4, PerChannel(), symmetric=True,
                                                 observer=Mse(p=3.5))),
        ("act int8", spec(8, PerTensor(), symmetric=False)),
        ("act int8 symmetric observer=lsq", spec(8, PerTensor(), symmetric=True, observer=Lsq())),
        ("act uint8 symmetric", spec(8, PerTensor(), signed=False, symmetric=True)),
        ("act int8 observer=percentile(99.9%)", spec(8, PerTensor(), symmetric=False,
                                                     observer=Percentile(q=99.9))),
        ("act int8 per_channel(-1) with_zero_point", spec(8, PerChannel(axis=-1),
                                                          symmetric=False)),
        ("act int8 per_token", spec(8, PerToken(), symmetric=False, observer=MinMax(),
                                    dynamic=True)),
        ("act int8 observer=minmax dynamic", spec(8, PerTensor(), symmetric=False,
                                                  observer=MinMax(), dynamic=True)),
    ],
)  # fmt: skip
def test_slot_line_means(line, expected):
    found = scheme(line)
    assert (found.weight if line.startswith("weight") else found.act) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("weight int4 symetric", ("QR404", "symetric")),
        ("weight int4 symetric=3", ("QR404", "symetric")),
        ("weight itn4", ("QR404", "itn4")),
        ("weight int4 observer=mean", ("QR404", "mean")),
        ("weight int40", ("QR403", "int40")),
        ("weight int1", ("QR403", "int1")),
        ("weight int4 bits=0", ("QR403", "0")),
        ("weight int4 bits=2.5", ("QR403", "2.5")),
        ("weight int4 per_group", ("QR405", "per_group")),
        ("weight int4 per_group(0)", ("QR410", "0")),
        ("act int4 per_group(8)", ("QR405", "per_group(8)")),
        ("weight int4 per_token", ("QR405", "per_token")),
        ("weight int4 dynamic", ("QR405", "dynamic")),
        ("act int4 per_channel(1) dynamic", ("QR405", "dynamic")),
        ("act int4 dynamic per_channel(1)", ("QR405", "per_channel(1)")),
        ("act int8 dynamic observer=mse", ("QR405", "observer=mse")),
        ("act int8 observer=percentile", ("QR405", "percentile")),
        ("act int8 observer=percentile(12)", ("QR410", "12")),
        ("weight int4 symmetric asymmetric", ("QR405", "asymmetric")),
        ("weight int4 symmetric(3)", ("QR405", "symmetric")),
        ("weight uint4 symmetric", ("QR405", "symmetric")),
        ("weight int4; weight float", ("QR210", "weight")),
        ("act with bits=4", ("QR306", "act")),
        ("kv int8", ("QR290", "kv")),
        ("bias float", ("QR290", "bias")),
        ("weight nf4", ("QR290", "nf4")),
        ("weight int2 + int2", ("QR290", "int2 + int2")),
    ],
)
def test_slot_line_is_checked(line, expected):
    assert marked(compiled(f"scheme s {{ {line} }}")[1]) == [expected]


def test_slot_that_is_not_mentioned_is_float():
    found = scheme("weight int8")
    assert (found.act, found.act2) == (FloatSlot(), FloatSlot())


def test_second_operand_follows_the_first_until_it_is_mentioned():
    text = (
        "scheme a { act int8 }\nscheme b extends a { act with bits=4 }\n"
        "scheme c extends b { act2 with bits=6 }\nscheme d extends c { act float }\n"
    )
    found = recipe_of(text).schemes
    assert (found["b"].act2.bits, found["b"].act2_follows) == (4, True)
    assert (found["c"].act.bits, found["c"].act2.bits, found["c"].act2_follows) == (4, 6, False)
    assert found["d"].act == FloatSlot()
    assert found["d"].act2.bits == 6


def test_extends_patches_replaces_and_takes_away():
    text = (
        "scheme c extends b { weight with per_tensor; act float }\n"
        "scheme b extends a { weight with bits=8; act int4 }\n"
        "scheme a { weight int4 per_group(8) observer=lsq; act int8 per_token }\n"
    )
    found = recipe_of(text).schemes
    assert found["b"].weight == spec(8, PerGroup(size=8), symmetric=True, observer=Lsq())
    assert found["b"].act == spec(4, PerTensor(), symmetric=False)
    assert found["c"].weight == spec(8, PerTensor(), symmetric=True, observer=Lsq())
    assert found["c"].act == FloatSlot()


def test_cycle_is_reported_once_and_hides_nothing_else():
    text = (
        "scheme a extends b { act float }\nscheme b extends a { act float }\n"
        "scheme c extends a { act float }\nscheme d { weight int99 }\n"
    )
    diagnostics = compiled(text)[1]
    assert marked(diagnostics) == [("QR203", "b"), ("QR403", "int99")]
    assert "`a` -> `b` -> `a`" in diagnostics[0].message


def test_long_chain_of_schemes_is_no_recursion():
    chain = "\n".join(f"scheme s{n + 1} extends s{n} {{ act float }}" for n in range(1100))
    found = recipe_of(f"scheme s0 {{ weight int5 }}\n{chain}").schemes
    assert found["s1100"].weight.bits == 5


def test_spans_lead_to_the_line_that_decided():
    recipe = recipe_of("scheme a { weight int4 }\nscheme b extends a { weight with bits=8 }")
    assert recipe.scheme_spans["a", "weight"].text == "weight int4"
    assert recipe.scheme_spans["b", "weight"].text == "weight with bits=8"

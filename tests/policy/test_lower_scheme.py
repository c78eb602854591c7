import pytest

from qcompile.policy.number_format import (
    FORMATS,
    BlockFormat,
    CodebookFormat,
    FloatFormat,
    LogFormat,
    NormalFormat,
    PowerFormat,
    SumFormat,
    named,
)
from qcompile.policy.scheme import (
    Clip,
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
        ("act int4 per_token observer=clip(0.9)", spec(4, PerToken(), symmetric=False,
                                                       observer=Clip(share=0.9), dynamic=True)),
        ("weight int4 observer=clip(85%)", spec(4, PerChannel(), symmetric=True,
                                                observer=Clip(share=0.85))),
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
        ("act int8 observer=clip", ("QR405", "clip")),
        ("act int8 observer=clip(p=0.9)", ("QR405", "clip(p=0.9)")),
        ("act int8 observer=mse(1, 2)", ("QR405", "mse(1, 2)")),
        ("act int8 observer=lsq(2)", ("QR404", "lsq(2)")),
        ("act int8 observer=clip(0)", ("QR410", "0")),
        ("act int8 observer=clip(1.01)", ("QR410", "1.01")),
        ("act int8 observer=clip(101%)", ("QR410", "101%")),
        ("act fp8_e4m3 per_token observer=clip(0.9)", ("QR405", "observer=clip(0.9)")),
        ("weight codebook4 observer=clip(0.9)", ("QR405", "observer=clip(0.9)")),
        ("weight int4 symmetric asymmetric", ("QR405", "asymmetric")),
        ("weight int4 symmetric(3)", ("QR405", "symmetric")),
        ("weight uint4 symmetric", ("QR405", "symmetric")),
        ("weight int4 observer=signed_mse", ("QR405", "observer=signed_mse")),
        ("weight uint4 per_group(8) observer=signed_mse", ("QR405", "observer=signed_mse")),
        (
            "weight int4 asymmetric per_group(8) observer=signed_mse",
            ("QR405", "observer=signed_mse"),
        ),
        ("weight nf4 per_group(8) observer=signed_mse", ("QR405", "observer=signed_mse")),
        ("act int4 observer=signed_mse", ("QR405", "observer=signed_mse")),
        ("weight int4 per_group(8) observer=signed_mse(11)", ("QR410", "11")),
        ("weight int4; weight float", ("QR210", "weight")),
        ("act with bits=4", ("QR306", "act")),
        ("weight codebok4", ("QR404", "codebok4")),
        ("weight power9", ("QR403", "power9")),
        ("weight log2_1", ("QR403", "log2_1")),
        ("weight nf4 asymmetric", ("QR405", "asymmetric")),
        ("weight nf4 bits=3", ("QR405", "bits=3")),
        ("weight power4 exponent=5", ("QR410", "5")),
        ("weight int4 exponent=0.5", ("QR405", "exponent=0.5")),
        ("weight log2_4", ("QR405", "weight log2_4")),
        ("weight mxfp4 per_channel", ("QR405", "per_channel")),
        ("weight mxfp4 observer=mse", ("QR405", "observer=mse")),
        ("weight nvfp4 per_group(32)", ("QR405", "per_group(32)")),
        ("weight codebook3 observer=mse", ("QR405", "observer=mse")),
        ("weight int2 + int2 + int2 + int2 + int2", ("QR405", "int2 + int2 + int2 + int2 + int2")),
        ("weight int2 + uint2", ("QR405", "weight int2 + uint2")),
        ("weight mxfp4 + nvfp4", ("QR405", "weight mxfp4 + nvfp4")),
        ("act nf4", ("QR405", "act nf4")),
        ("act int4 + int4", ("QR405", "act int4 + int4")),
        ("act mxfp8 per_tensor", ("QR405", "per_tensor")),
        ("bias power4", ("QR405", "bias power4")),
        ("bias int8 per_group(4)", ("QR405", "per_group(4)")),
        ("bias int8 dynamic", ("QR405", "dynamic")),
        ("kv log2_4", ("QR405", "kv log2_4")),
        ("kv codebook4", ("QR405", "kv codebook4")),
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


def test_keys_and_values_follow_the_second_operand_until_they_are_mentioned():
    text = (
        "scheme a { act int8 }\nscheme b extends a { act2 with bits=6 }\n"
        "scheme c extends b { kv with bits=4 }\nscheme d extends c { act2 with bits=7 }\n"
        "scheme e extends a { kv float }\n"
    )
    found = recipe_of(text).schemes
    assert [(found[name].kv.bits, found[name].kv_follows) for name in "abcd"] == [
        *((8, True), (6, True)),
        *((4, False), (4, False)),
    ]
    assert (found["e"].kv, found["e"].act2.bits) == (FloatSlot(), 8)


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


@pytest.mark.parametrize("number", FORMATS, ids=str)
def test_every_format_is_legal_in_the_slots_that_it_is_for(number):
    legal = {
        slot
        for slot in ("weight", "act", "act2", "bias", "kv")
        if compiled(f"scheme s {{ {slot} {number} }}")[1] == []
    }
    match number:
        case IntFormat():
            assert legal == {"weight", "act", "act2", "bias", "kv"}
        case FloatFormat():
            assert legal == {"weight", "act", "act2", "bias", "kv"}
        case LogFormat():
            assert legal == {"act", "act2"}
        case NormalFormat() | CodebookFormat():
            assert legal == {"weight"}
        case PowerFormat() | BlockFormat():
            assert legal == {"weight", "act", "act2", "kv"}


@pytest.mark.parametrize("number", FORMATS, ids=str)
def test_a_format_is_written_as_it_is_read(number):
    assert named(str(number)) == number


def test_a_sum_and_an_exponent_are_part_of_the_format():
    scheme = recipe_of("scheme s { weight int2 + nf4; act power4 exponent=0.5 }").schemes["s"]
    assert scheme.weight.format == SumFormat((IntFormat(2, signed=True), NormalFormat()))
    assert (str(scheme.weight.format), scheme.weight.bits) == ("int2 + nf4", 6)
    assert scheme.act.format == PowerFormat(4, 0.5)


def test_blocks_bring_their_granularity_and_their_range():
    scheme = recipe_of("scheme s { weight nvfp4; act mxfp8 }").schemes["s"]
    assert (scheme.weight.granularity, scheme.weight.dynamic) == (PerGroup(16), False)
    assert (scheme.act.granularity, scheme.act.dynamic) == (PerGroup(32), True)


def test_bits_of_a_family_can_be_set_and_those_of_a_table_cannot():
    found = recipe_of("scheme a { weight power4 }\nscheme b extends a { weight with bits=3 }")
    assert found.schemes["b"].weight.format == PowerFormat(3)

from typing import get_args

import pytest

from qcompile.methods import axes
from qcompile.methods.axes import Augment, LossTerm, Optimizer, Select
from qcompile.methods.presets import PRESETS
from qcompile.policy.lower_tune import AUGMENTS, DROPS, LOSSES, OPTIMIZERS, SELECTS
from tests.policy.compiled import W8, compiled, marked, recipe_of

MODEL = 'model "zoo:resnet20"\n'
MAIN = W8 + "policy main { use w8 for conv }\n"
DATA = 'calibrate { data = "zoo:fashion_mnist/calib"; samples = 64; seed = 1 }\n'


def tuned(text):
    return recipe_of(f"tune {text}").tuning


def test_every_word_of_the_table_is_read_as_written():
    assert tuned("brecq { partition = network }").partition == "network"
    assert tuned("brecq { solver = [gram, cd, gradient] }").solvers == ("gram", "cd", "gradient")
    assert tuned("brecq { variable = weight }").variable == "weight"
    assert tuned("brecq { learn = [rounding, bias, norm] }").learn == ("rounding", "bias", "norm")
    found = tuned("brecq { regularizer = 4; beta = 15..3.5; warmup = 10% }")
    assert (found.hardening, found.beta_start, found.beta_end, found.warmup) == (4, 15, 3.5, 0.1)
    found = tuned("brecq { steps = 9; batch = 8; samples = 32; seed = 3; patience = 5 }")
    assert (found.steps, found.batch, found.samples) == (9, 8, 32)
    assert (found.seed, found.patience) == (3, 5)
    found = tuned("brecq { precision = bf16; inputs = mixed; schedule = cosine }")
    assert (found.precision, found.inputs, found.schedule) == ("bf16", "mixed", "cosine")


def test_a_solver_that_takes_steps_takes_a_thousand_where_the_preset_has_none():
    assert tuned("hybrid").steps == 0
    assert tuned("hybrid { solver = [gram, cd] }").steps == 1000
    assert tuned("rtn { solver = [rtn, gradient] }").steps == 1000
    assert tuned("hybrid { solver = [gram, cd]; steps = 7 }").steps == 7


def test_words_have_arguments_by_place_by_name_and_by_default():
    assert tuned("brecq { loss = mse }").loss == (LossTerm("mse"),)
    assert tuned("brecq { loss = mse(2.4) + trimmed(0.1%) + kl }").loss == (
        LossTerm("mse", p=2.4),
        LossTerm("trimmed", share=0.001),
        LossTerm("kl"),
    )
    prediction = LossTerm("prediction", temperature=4, weight=2)
    assert tuned("brecq { loss = prediction(weight=2) }").loss == (prediction,)
    found = tuned("brecq { drop = act(0.25) }")
    assert (found.drop, found.keep_quantized) == ("act", 0.25)
    assert tuned("brecq { drop = gradual }").keep_quantized == 0
    assert tuned("brecq { augment = noise(0.1) }").augment == Augment("noise", 0.1)
    assert tuned("brecq { select = near_threshold(20%) }").select == Select("near_threshold", 0.2)
    lion = Optimizer("lion", lr=0.01, beta1=0.9, weight_decay=0.1)
    assert tuned("brecq { optimizer = lion(0.01, beta1=0.9, weight_decay=0.1) }").optimizer == lion


def test_a_value_of_a_parameter_is_a_value():
    text = "param n: int = 7\ntune brecq { steps = n; drop = both(n / 10) }"
    found = recipe_of(text).tuning
    assert (found.steps, found.keep_quantized) == (7, 0.7)


@pytest.mark.parametrize(
    ("forms", "names"),
    [
        (LOSSES, axes.LossName),
        (DROPS, axes.DropPlace),
        (AUGMENTS, axes.AugmentName),
        (SELECTS, axes.SelectName),
        (OPTIMIZERS, axes.OptimizerName),
    ],
)
def test_every_name_of_an_axis_has_a_form_in_the_language(forms, names):
    assert {form.word for form in forms} == set(get_args(names))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("brecq { loss = mes }", ("QR410", "mes")),
        ("brecq { loss = mse + mse(p=2.4) }", ("QR405", "loss = mse + mse(p=2.4)")),
        ("brecq { loss = mse + 3 }", ("QR401", "3")),
        ("brecq { loss = trimmed }", ("QR405", "trimmed")),
        ("brecq { loss = trimmed(60%) }", ("QR410", "60%")),
        ("brecq { loss = kl(2) }", ("QR409", "2")),
        ("brecq { loss = prediction(t=4) }", ("QR409", "t")),
        ("brecq { loss = prediction(4, T=4) }", ("QR210", "T=4")),
        ("brecq { drop = none(0.5) }", ("QR409", "0.5")),
        ("brecq { drop = both(0.5, 0.5) }", ("QR409", "0.5")),
        ("brecq { optimizer = adamn }", ("QR410", "adamn")),
        ("brecq { optimizer = adam(momentum=0.9) }", ("QR409", "momentum")),
        ("brecq { optimizer = adam(lr=0) }", ("QR410", "0")),
        ("brecq { select = salient }", ("QR405", "salient")),
        ("brecq { augment = noise(-1) }", ("QR410", "-1")),
        ("brecq { beta = 20 }", ("QR401", "20")),
        ("brecq { beta = 20..0 }", ("QR410", "0")),
        ("brecq { warmup = 100% }", ("QR410", "100%")),
        ("brecq { regularizer = 0 }", ("QR410", "0")),
        ("brecq { patience = 0 }", ("QR410", "0")),
        ("brecq { learn = [rounding, scales] }", ("QR410", "scales")),
        # products
        ("brecq { learn = [rounding, scale] }", ("QR405", "learn = [rounding, scale]")),
        ("brecq { solver = [gradient, rtn] }", ("QR405", "solver = [gradient, rtn]")),
        ("brecq { solver = [cd, cd] ; steps = 3 }", ("QR405", "solver = [cd, cd]")),
        ("brecq { variable = additive; beta = 20..2 }", ("QR405", "beta = 20..2")),
        ("brecq { loss = prediction; partition = network }", ("QR405", "loss = prediction")),
        ("brecq { loss = fisher; augment = mixup }", ("QR405", "augment = mixup")),
        ("brecq { inputs = float; drop = input }", ("QR405", "drop = input")),
        ("brecq { loss = kl + kl }", ("QR405", "loss = kl + kl")),
        ("brecq { loss = prediction(weight=0) }", ("QR405", "loss = prediction(weight=0)")),
        ("rtn { select = salient(0.1) }", ("QR405", "select = salient(0.1)")),
        ("hybrid { learn = [rounding, exponent] }", ("QR405", "learn = [rounding, exponent]")),
        ("hybrid { loss = huber }", ("QR405", "loss = huber")),
        ("optq { loss = mse(p=2.4) }", ("QR405", "loss = mse(p=2.4)")),
        ("hybrid { loss = mse + fisher }", ("QR405", "loss = mse + fisher")),
        ("rtn { loss = fisher }", ("QR405", "loss = fisher")),
        ("rtn { order = natural }", ("QR405", "order = natural")),
        ("rtn { samples = 8 }", ("QR405", "samples = 8")),
        ("optq { patience = 8 }", ("QR405", "patience = 8")),
    ],
)
def test_an_illegal_value_or_product_is_reported_at_its_text(text, expected):
    assert expected in marked(compiled(f"tune {text}")[1])


def test_more_samples_than_there_are_is_an_error():
    text = MODEL + MAIN + DATA + "tune brecq { samples = 65 }"
    assert ("QR405", "samples = 65") in marked(compiled(text)[1])


def test_samples_are_a_whole_number_of_batches():
    for tune in ("brecq { samples = 48 }", "hybrid { samples = 48 }"):
        found = marked(compiled(MODEL + MAIN + DATA + f"tune {tune}")[1])
        assert found == [("QR405", "samples = 48")]
    for tune in ("brecq { samples = 48; batch = 16 }", "hybrid { samples = 32 }"):
        assert compiled(MODEL + MAIN + DATA + f"tune {tune}")[1] == []


def test_dynamic_activations_have_no_scale_to_learn():
    scheme = "scheme d { weight int4; act int8 per_token }\npolicy main { use d for linear }\n"
    text = "tune brecq { learn = [rounding, act_scale] }"
    assert marked(compiled(scheme + text)[1]) == [("QR405", "learn = [rounding, act_scale]")]
    assert compiled(scheme.replace("per_token", "per_tensor") + text)[1] == []


@pytest.mark.parametrize("act", ["power4", "uint8", "uint4 observer=minmax", "uint4 per_channel"])
def test_the_layer_solvers_choose_coarse_ranges_of_integers_alone(act):
    scheme = f"scheme d {{ weight int4; act {act} }}\npolicy main {{ use d for linear }}\n"
    scheme += 'calibrate { data = "a.b:c"; samples = 32; seed = 1 }\n'
    text = "tune hybrid { learn = [rounding, act_scale] }"
    assert marked(compiled(scheme + text)[1]) == [("QR405", "learn = [rounding, act_scale]")]
    assert compiled(scheme + "tune hybrid")[1] == []
    assert compiled(scheme.replace(act, "uint6") + text)[1] == []
    by_gradient = "tune hybrid { solver = [optq, gradient]; learn = [rounding, act_scale] }"
    assert compiled(scheme + by_gradient)[1] == []


@pytest.mark.parametrize(
    ("weight", "tune", "marks"),
    [
        ("int4 symmetric", "brecq { variable = weight; learn = zero_point }", "learn = zero_point"),
        ("int4 asymmetric", "brecq { variable = weight; learn = zero_point }", None),
        ("mxfp4", "brecq { variable = weight; learn = scale }", "learn = scale"),
        ("nf4", "brecq { variable = weight; learn = scale }", None),
        ("nf4", "brecq { variable = weight; learn = levels }", "learn = levels"),
        ("codebook3", "brecq { variable = weight; learn = levels }", None),
        (
            "power4 exponent=0.5",
            "brecq { variable = weight; learn = exponent }",
            "learn = exponent",
        ),
        ("power4", "brecq { variable = weight; learn = exponent }", None),
        ("int4", "nupes", "nupes"),
        ("int4", "powerquant", "powerquant"),
        ("power3", "nupes", None),
        ("power3", "powerquant", None),
        ("mxfp4", "signround", None),
    ],
)
def test_what_no_grid_has_cannot_be_learned(weight, tune, marks):
    scheme = f"scheme s {{ weight {weight} }}\npolicy main {{ use s for linear }}\n"
    found = marked(compiled(scheme + DATA + f"tune {tune}")[1])
    assert found == ([] if marks is None else [("QR405", marks)])


def test_solvers_of_layers_may_weigh_rows_and_move_ranges():
    tuning = tuned("hybrid { loss = fisher; learn = [rounding, act_scale] }")
    assert tuning.weighs_rows
    assert tuning.learn == ("rounding", "act_scale")
    assert not tuned("hybrid").weighs_rows
    assert not tuned("brecq_fisher").weighs_rows  # its rows are learned by gradient


@pytest.mark.parametrize("name", [one.preset for one in PRESETS])
def test_every_preset_is_known_to_check(name):
    assert tuned(name).preset == name

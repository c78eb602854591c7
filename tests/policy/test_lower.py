from dataclasses import replace

import pytest

from qcompile.diagnostics.codes import Severity
from qcompile.diagnostics.source import Source
from qcompile.methods.presets import PRESETS
from qcompile.policy.lower import lower
from qcompile.policy.recipe import Input
from qcompile.syntax.parse import parse
from tests.policy.compiled import W8, compiled, marked, recipe_of

MODEL = 'model "zoo:resnet20"\n'
MAIN = W8 + "policy main { use w8 for conv }\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select s = 12", [("QR401", "12")]),
        ("select s = convs", [("QR201", "convs")]),
        ("select s = frist(conv)", [("QR201", "frist")]),
        ("select s = first(conv, 1)", [("QR401", "first(conv, 1)")]),
        ("select s = first(of=conv)", [("QR401", "of")]),
        ("select s = nth(conv, 1.5)", [("QR401", "1.5")]),
        ("select s = params", [("QR401", "params")]),
        ("select s = conv == 3", [("QR401", "conv")]),
        ("select s = 1 == 1", [("QR401", "1 == 1")]),
        ("select s = kernel == 3", [("QR402", "3")]),
        ("select s = kernel < [3, 3]", [("QR401", "kernel < [3, 3]")]),
        ("select s = params > 3MB", [("QR402", "3MB")]),
        ("select s = params > 1M + 3MB", [("QR402", "3MB")]),
        ("select s = params > 3Mb", [("QR406", "3Mb")]),
        ("select s = params > 3furlong", [("QR406", "3furlong")]),
        ("select s = params % 0 == 1", [("QR410", "0")]),
        ("select s = params > 1e30", [("QR410", "1e30")]),
        ('select s = "a..b"', [("QR311", '"a..b"')]),
        ('select s = re"x(?=a)"', [("QR309", "(?=")]),
        ('select s = re"(a+)+$"', [("QR309", "(a+)+")]),
        ("select s = inside(conv)", [("QR401", "conv")]),
        ("select s = input_of(12)", [("QR401", "12")]),
        ("select s = between(conv)", [("QR401", "between(conv)")]),
        ("select s = param(conv)", [("QR401", "conv")]),
        ("select s = block(3..1)", [("QR401", "3..1")]),
        ("select s = any is conv", [("QR401", "any is conv")]),
        ("let a = b\nlet b = a", [("QR203", "a")]),
        ("let a = 1\nselect a = conv", [("QR202", "a")]),
        ("let macs = 1", [("QR202", "macs")]),
        ("expect conv", [("QR401", "conv")]),
        ("expect size <= 4.5", [("QR402", "4.5")]),
        ("expect macs <= 1MB", [("QR402", "1MB")]),
        ("expect count(conv) == 1 and conv", [("QR401", "conv")]),
        ("expect exists(conv) except exists(add)", [("QR401", "exists(conv) except exists(add)")]),
        ("expect min_bits(kv) > 1", [("QR401", "kv")]),
        ("expect all(conv)", [("QR401", "conv")]),
        ("expect none(scheme(x))", [("QR201", "x")]),
        ("expect accuracy_drop(conv) < 1", [("QR401", "conv")]),
        ("expect accuracy_drop < 1%", [("QR605", "accuracy_drop")]),
        ("prefer sqnr(output) >= 20dB", [("QR605", "sqnr")]),
        ("expect time <= 2h", [("QR401", "time")]),
        ("require exists(conv)", [("QR605", "exists(conv)")]),
        ("require time <= 2h", [("QR401", "time")]),
        ("require accuracy_drop <= 1MB", [("QR402", "1MB")]),
        ("require acuracy_drop <= 1%", [("QR201", "acuracy_drop")]),
        ("require top1 >= 90% else w9", [("QR201", "w9")]),
        (W8 + "require top1 >= 90% else w8", []),
        ("budget { size <= 3MB; time <= 2h; avg_bits(weight) <= 4.5 }", []),
        ("budget { time <= 2h; time <= 1h }", [("QR210", "time <= 1h")]),
        ("budget { conv }", [("QR401", "conv")]),
        ("budget { exists(conv) }", [("QR401", "exists(conv)")]),
        ("budget { size <= 3 }", [("QR402", "3")]),
        ("budget { size <= 3MB; size <= 2MB }", [("QR210", "size <= 2MB")]),
        ("budget { accuracy_drop <= 1% }", [("QR605", "accuracy_drop")]),
        ("budget { minimize los_increase }", [("QR201", "los_increase")]),
        ("budget { minimize 3 }", [("QR401", "3")]),
        ("budget { minimize size; maximize accuracy }", [("QR210", "maximize accuracy")]),
        ("budget { maximize size }", [("QR201", "size")]),
        ('import "a" as a\nexpect none(scheme(a.b))', [("QR205", '"a"')]),
        ("budget { size <= 3MB }", []),
        ('target "x86-int9"', [("QR201", '"x86-int9"')]),
        ('target "generic-int"', [("QR290", '"generic-int"')]),
        ('target "x86-int8" { threads = 2 }', [("QR290", "threads = 2")]),
        ("prepare equalize", []),
        ("prepare bias_correction", [("QR290", "bias_correction")]),
        ("prepare awq { clip = true }", [("QR290", "clip = true")]),
        ("prepare awq { clip = false; grid = 1 }", [("QR410", "1")]),
        ("prepare fold_nb", [("QR201", "fold_nb")]),
        ("prepare fold_bn { a = 1 }", [("QR409", "a")]),
        ('prepare fold_bn for "a"', [("QR290", '"a"')]),
        ("tune brecq { drop = boht }", [("QR410", "boht")]),
        ("tune brecq { drop = both(1.5) }", [("QR410", "1.5")]),
        ("tune brecq { steps = 0 }", [("QR410", "0")]),
        ("tune rtm", [("QR201", "rtm")]),
        ("tune brecc { steps = 100 }", [("QR201", "brecc")]),
        ("tune rtn for conv", []),
        ("tune rtn for convv", [("QR201", "convv")]),
        ("tune rtn for 3", [("QR401", "3")]),
        ("tune rtn for conv { seed = 1 }", [("QR290", "seed = 1")]),
        ("tune brecq { batch = 8 }\ntune qdrop for conv", [("QR290", "batch = 8")]),
        ("prepare smoothquant { alpha = 2 }", [("QR410", "2")]),
        ("prepare smoothquant { alfa = 0.5 }", [("QR409", "alfa")]),
        ("prepare awq { clip = 1 }", [("QR401", "1")]),
        ("prepare rotate { matrix = fourier }", [("QR410", "fourier")]),
        ("prepare rotate\nprepare rotate for linear { block = 64 }", []),
        ("prepare rotate { block = 48 }", [("QR410", "48")]),
        ("prepare rotate { block = 2048 }", [("QR410", "2048")]),
        ("prepare rotate for convv", [("QR201", "convv")]),
        ('output { dir = "x"; format = "onx" }', [("QR410", '"onx"')]),
        ('output { target = "cpu-int4" }', []),
        ('output { target = "x86-vnni" }', [("QR290", '"x86-vnni"')]),
        ('output { target = "board.json" }', [("QR410", '"board.json"')]),
        ('output { format = ["fx", "onnx"]; report = "json" }', []),
        ('output { format = ["pt2", "onx"] }', [("QR410", '"onx"')]),
        ('output { report = ["json", "html"] }', []),
        ('output { report = ["json", "pdf"] }', [("QR410", '"pdf"')]),
        ('calibrate { data = "a"; seed = 1; mask = 3 }', [("QR401", "3")]),
        ('calibrate { data = "a"; seed = 1; mask = "m" }', []),
        ('evaluate top1 { data = "a"; mask = "m" }', []),
        ('calibrate { data = "a"; seed = 1; seq_len = 0 }', [("QR410", "0")]),
        (W8 + "policy p { choose w8 for conv }", [("QR405", "w8")]),
        (W8 + "policy p { choose w8, w8 for conv }", [("QR210", "w8")]),
        (W8 + "policy p { choose w8, w9 for conv }", [("QR201", "w9")]),
        (W8 + "scheme w4 { weight int4 }\npolicy p { choose w8, w4 for conv }", [("QR405", "w4")]),
        (W8 + "policy p { share scael for add }", [("QR409", "scael")]),
        (W8 + "policy p { share scale for 3 }", [("QR401", "3")]),
        (W8 + "policy p { share scale for add }", []),
        (W8 + "policy p { set untie = 3 for conv }", [("QR401", "3")]),
        (W8 + "policy p { set unty = true for conv }", [("QR409", "unty")]),
        (W8 + "policy p { set per_call = true for conv }", []),
        (W8 + "policy p { share zero_point for add }", [("QR290", "share zero_point for add")]),
        ("tune rtn { iters = 1 }", [("QR409", "iters")]),
        ("tune rtn { loss = mse }", [("QR405", "loss = mse")]),
        ("tune brecq { partition = blok }", [("QR410", "blok")]),
        ("tune rtn { steps = 100 }", [("QR405", "steps = 100")]),
        ('output { dirr = "x" }', [("QR409", "dirr")]),
        ('output { dir = "x"; format = "fx" }', []),
        ('calibrate { data = "a"; seed = 1; batch = 0 }', [("QR410", "0")]),
        ('calibrate { data = "a"; seed = 1; samples = 1.5 }', [("QR401", "1.5")]),
        ('calibrate { data = "a" }', [("QR704", 'calibrate { data = "a" }')]),
        ("calibrate { seed = 1 }", [("QR211", "calibrate { seed = 1 }")]),
        ('evaluate top2 { data = "a" }', [("QR201", "top2")]),
        ("blocks { each conv }", [("QR401", "conv")]),
        ("blocks { each \"a.*\"; overlap = 0 }", []),
        ("tune rtn\ntune rtn { seed = 1 }", [("QR210", "tune rtn { seed = 1 }")]),
        (MODEL, [("QR211", '"zoo:resnet20"')]),
        (MODEL + MAIN + "let n = 3", [("QR206", "n")]),
        (MODEL + MAIN + "select s = conv", [("QR206", "s")]),
        (MODEL + MAIN + "scheme s extends w8 { act float }", [("QR206", "s")]),
        (MODEL + W8 + "policy a { use w8 for any }\npolicy b { use w8 for any }", [("QR211", "a")]),
    ],
)  # fmt: skip
def test_problem_is_reported_at_its_text(text, expected):
    assert marked(compiled(text)[1]) == expected


def test_every_diagnostic_has_a_way_out():
    text = "select s = 12 or convs\nexpect size <= 4.5\ntune rtn { iters = 1; steps = 3 }\n"
    diagnostics = compiled(text)[1]
    assert len(diagnostics) == 5
    assert all(item.help for item in diagnostics)


@pytest.mark.parametrize("version", [2, 7])
def test_newer_language_is_named(version):
    source = Source("r", f"qrecipe {version}\nlet a = b\n")
    recipe, (diagnostic,) = lower(parse(source)[0], source)
    assert recipe is None
    assert (diagnostic.code.number, diagnostic.primary.span.text) == ("QR207", str(version))


def test_warnings_do_not_withhold_the_recipe():
    recipe, (warning,) = compiled(MODEL + MAIN + "let n = 3")
    assert recipe is not None
    assert warning.severity is Severity.WARNING


def test_errors_withhold_the_recipe():
    assert compiled("select s = 12")[0] is None


def test_model_block_is_read():
    recipe = recipe_of(
        MAIN
        + 'let edge = 7\nmodel "m:f" { args = [3, "a", true, [1, 2.5]]; weights = "w.safetensors"\n'
        + "inputs = { ids = int64[batch, seq], x = float32[batch, 3, edge] } }"
    )
    model = recipe.model
    assert (model.reference, model.weights) == ("m:f", "w.safetensors")
    assert model.args == (3, "a", True, (1, 2.5))
    ids, x = model.inputs
    assert ids == Input("ids", "int64", ("batch", "seq"), ids.span)
    assert x == Input("x", "float32", ("batch", 3, 7), x.span)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("input = float31[1]", ("QR410", "float31")),
        ("input = float32[0]", ("QR410", "0")),
        ("input = 3", ("QR401", "3")),
        ("inputs = float32[1]", ("QR401", "float32[1]")),
        ("args = 3", ("QR401", "3")),
        ("strict = 1", ("QR401", "1")),
        ("strict = false", ("QR290", "strict = false")),
        ('leaf = "a.b"', ("QR290", 'leaf = "a.b"')),
        ("leaf = 3", ("QR401", "3")),
        ("input = float32[1]; inputs = { a = float32[1] }", ("QR405", "inputs")),
        ("inputs = { a = float32[1], a = float32[2] }", ("QR210", "a")),
    ],
)
def test_model_block_is_checked(setting, expected):
    assert marked(compiled(MAIN + f'model "m:f" {{ {setting} }}')[1]) == [expected]


def test_recipe_without_model_is_a_library():
    recipe = recipe_of(W8 + "policy a { use w8 for any }\npolicy b { include a }")
    assert recipe.is_library
    assert recipe.policy is None
    assert recipe.rules == ()


def test_static_ranges_need_calibration():
    text = MODEL + "scheme a8 { act int8 }\npolicy main { use a8 for conv }"
    assert marked(compiled(text)[1]) == [("QR211", "use a8 for conv")]
    assert compiled(text.replace("int8", "int8 dynamic"))[1] == []
    assert compiled(text + '\ncalibrate { data = "zoo:x"; seed = 3 }')[1] == []


def test_settings_have_defaults():
    recipe = recipe_of('calibrate { data = "zoo:x"; seed = 3 }')
    assert (recipe.calibration.samples, recipe.calibration.batch) == (256, 32)
    assert recipe.tuning.preset == "rtn"
    assert [item.name for item in recipe.transforms] == ["fold_bn"]
    assert recipe.output is None


def test_settings_are_read():
    recipe = recipe_of(
        'let n = 64\ncalibrate { data = "zoo:x"; samples = 2 * n; batch = 8; seed = 3; '
        'labels = "y" }\nevaluate top1 { data = "zoo:t"; batch = 100 }\n'
        'tune brecq { partition = layer; seed = 5 }\noutput { dir = "out" }'
    )
    calibration = recipe.calibration
    assert (calibration.samples, calibration.batch, calibration.seed) == (128, 8, 3)
    assert calibration.labels == "y"
    assert [(one.metric, one.batch, one.samples) for one in recipe.evaluations] == [
        ("top1", 100, None)
    ]
    assert (recipe.tuning.partition, recipe.tuning.seed) == ("layer", 5)
    assert recipe.output.directory == "out"


def test_axes_of_a_preset_are_moved_one_by_one():
    text = (
        "tune qdrop { steps = 300; batch = 16; drop = input(0.25); optimizer = adam(lr=0.01)\n"
        "partition = layer; learn = rounding; solver = [optq, gradient] }"
    )
    tuning = recipe_of(text).tuning
    assert (tuning.preset, tuning.steps, tuning.batch) == ("qdrop", 300, 16)
    assert (tuning.drop, tuning.keep_quantized) == ("input", 0.25)
    assert (tuning.partition, tuning.learn) == ("layer", ("rounding",))
    assert tuning.solvers == ("optq", "gradient")
    assert tuning.rounding_lr == 0.01


def test_presets_are_points_of_the_same_product():
    found = {item.preset: item for item in PRESETS}
    assert found["adaround"].partition == "layer"
    assert found["brecq"].partition == found["qdrop"].partition == "block"
    changed = {"preset": "qdrop", "drop": "both"}
    assert replace(found["brecq"], **changed) == found["qdrop"]
    assert replace(found["brecq"], steps=20_000).rounding_lr == 1e-3

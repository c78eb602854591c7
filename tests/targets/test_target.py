import json
from pathlib import Path

import jsonschema
import pytest

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.targets.catalogue import MAX_BYTES, find_target
from qcompile.targets.layer_form import LayerForm, TensorForm
from qcompile.targets.names import BUILTIN
from qcompile.targets.target import TARGET_FORMAT_VERSION, Target

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
W8 = TensorForm("int8", True, "per_channel")
W8Z = TensorForm("uint8", False, "per_channel")
W4G = TensorForm("int4", True, "per_group", 64)
A8 = TensorForm("uint8", False, "per_tensor")
PER_TOKEN = TensorForm("int8", True, "per_token", dynamic=True)


def target(name):
    found = find_target(name)
    assert isinstance(found, Target)
    return found


def linear(weight, *acts, inputs=64, outputs=64):
    return LayerForm("linear", weight, acts, inputs, outputs)


@pytest.mark.parametrize("name", BUILTIN)
def test_a_shipped_target_is_a_file_by_the_published_schema(name):
    schema = json.loads((SCHEMAS / f"target-{TARGET_FORMAT_VERSION}.json").read_text())
    document = target(name).model_dump(mode="json", exclude_unset=True)
    jsonschema.Draft202012Validator(schema).validate(document)
    assert target(name).name == name


def test_the_published_schema_is_that_of_the_program():
    text = (SCHEMAS / f"target-{TARGET_FORMAT_VERSION}.json").read_text()
    assert json.loads(text) == Target.model_json_schema()


@pytest.mark.parametrize(
    ("name", "layer", "kernel"),
    [
        ("simulate", LayerForm("attention", None, (A8, PER_TOKEN)), "reference"),
        ("x86-int8", linear(W8, A8), "onednn_qlinear"),
        ("x86-int8", LayerForm("conv2d", W8, (A8,)), "onednn_qconv"),
        ("x86-int8", linear(W8, PER_TOKEN), "onednn_qlinear_dynamic"),
        ("x86-int8", linear(TensorForm("uint4", False, "per_tensor"), A8), "onednn_qlinear"),
        ("x86-int8", linear(TensorForm("int8", False, "per_channel"), A8), "onednn_qlinear"),
        ("x86-int8", LayerForm("conv2d", W8Z, (A8,)), "onednn_qconv"),
        ("x86-int8", linear(W8Z, PER_TOKEN), "onednn_qlinear_dynamic"),
        ("x86-int8", linear(TensorForm("int8", True, "per_channel(1)"), A8), None),
        ("x86-int8", linear(TensorForm("nf4", True, "per_channel"), A8), None),
        ("x86-int8", linear(W4G, A8), None),
        ("x86-int8", linear(W8), None),
        ("x86-int8", LayerForm("conv1d", W8, (A8,)), None),
        ("x86-int8", LayerForm("add", None, (A8, A8)), None),
        ("x86-int8", LayerForm("add_codes", None, (A8,)), "onednn_sum"),
        ("x86-int8", LayerForm("add_codes", None, (PER_TOKEN,)), None),
        ("cpu-int4", linear(W4G), "int4_weight_only"),
        ("cpu-int4", linear(W4G, A8), None),
        ("cpu-int4", linear(W4G, outputs=24), None),
        ("cpu-int4", linear(TensorForm("int4", True, "per_group", 16)), None),
        ("cpu-int4", linear(TensorForm("int4", True, "per_channel"), inputs=48), None),
        (
            "cpu-int4",
            linear(TensorForm("int4", True, "per_channel"), inputs=96),
            "int4_weight_only",
        ),
        ("cpu-int8-weight-only", linear(W8), "int8_weight_only"),
        ("cpu-int8-weight-only", linear(W8, inputs=40), None),
    ],
    ids=str,
)
def test_the_table_says_which_layers_have_a_kernel(name, layer, kernel):
    answer = target(name).answer(layer)
    assert answer.kernel == kernel
    assert answer.outcome == ("float" if kernel is None else "kernel")
    assert (answer.because == "") == (kernel is not None)


def test_a_layer_with_nothing_quantized_is_float_everywhere():
    for name in BUILTIN:
        assert target(name).answer(LayerForm("linear")).outcome == "float"


def test_what_would_work_is_said_in_words():
    assert target("cpu-int4").kernels_for("linear") == (
        "weight int2..int4/uint2..uint4 per_group(32/64/128/256), act float, "
        "outputs a multiple of 16",
        "weight int2..int4/uint2..uint4 per_tensor or per_channel, act float, "
        "inputs a multiple of 32, outputs a multiple of 16",
    )
    assert target("cpu-int4").kernels_for("conv2d") == ()


def row(**changes):
    return {"ops": ["linear"], "weight": "any", "act": "any", "outcome": "refuse"} | changes


def document(*rows, **changes):
    return {"name": "board", "title": "ours", "support": list(rows)} | changes


def test_a_file_of_the_users_own_is_a_target(tmp_path):
    rows = (row(ops=["embedding"], because="no table lookup"), row(outcome="float"))
    (tmp_path / "b.json").write_text(json.dumps(document(*rows, otherwise="refuse")))
    found = find_target("b.json", tmp_path)
    assert isinstance(found, Target)
    assert found.answer(LayerForm("embedding", W8)).because == "no table lookup"
    assert found.answer(linear(W8)).outcome == "float"
    assert found.answer(LayerForm("conv2d", W8)).outcome == "refuse"


def test_a_row_for_additions_is_for_those_of_codes_and_floats_as_well(tmp_path):
    rows = (row(ops=["add"], because="no addition"), row(ops=["*"], outcome="float"))
    (tmp_path / "b.json").write_text(json.dumps(document(*rows)))
    found = find_target("b.json", tmp_path)
    assert isinstance(found, Target)
    for form in (LayerForm("add", None, (A8, A8)), LayerForm("add_codes", None, (A8,))):
        assert found.answer(form).because == "no addition"


def test_an_addition_of_codes_and_floats_is_named_in_words():
    answer = target("x86-int8").answer(LayerForm("add_codes", None, (PER_TOKEN,)))
    assert answer.because.startswith("no kernel takes add of floats and int8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "the document"),
        (json.dumps(document(row(), suport=[])), "suport"),
        (json.dumps(document(row(outcome="kernel", kernel="magic"))), "support.0.kernel"),
        (json.dumps(document(row(outcome="kernel"))), "`kernel` goes with"),
        (json.dumps(document(row(kernel="onednn_qconv"))), "`kernel` goes with"),
        (json.dumps(document(format_version="2.0")), "format version 2.0"),
        (json.dumps(document(agreement=-1)), "agreement"),
        (" " * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_a_file_that_describes_no_target_is_refused(tmp_path, text, said):
    (tmp_path / "b.json").write_text(text)
    found = find_target("b.json", tmp_path)
    assert isinstance(found, Diagnostic)
    assert found.code.number == "QR540"
    assert said in found.message


def test_a_missing_file_and_an_unknown_name_are_told_apart(tmp_path):
    missing, unknown = find_target("none.json", tmp_path), find_target("x86_int8", tmp_path)
    assert isinstance(missing, Diagnostic)
    assert isinstance(unknown, Diagnostic)
    assert (missing.code.number, unknown.code.number) == ("QR540", "QR201")
    assert unknown.help == "did you mean `x86-int8`?"


def test_the_example_of_the_page_is_a_target(tmp_path):
    page = (SCHEMAS.parent / "targets.md").read_text()
    (example,) = (part.split("```")[0] for part in page.split("```json\n")[1:])
    (tmp_path / "board.json").write_text(example)
    board = find_target("board.json", tmp_path)
    assert isinstance(board, Target)
    assert board.answer(linear(W8, A8)).kernel == "onednn_qlinear"
    assert board.answer(LayerForm("embedding", W8)).outcome == "refuse"

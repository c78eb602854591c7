import pytest

from qcompile.data.purpose import DATA, METRIC, MODEL
from qcompile.data.reference import (
    CallableReference,
    ImagesReference,
    SafetensorsReference,
    TextReference,
    ZooReference,
    parse_reference,
)
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic


@pytest.mark.parametrize(
    ("text", "purpose", "expected"),
    [
        ("net:build", MODEL, CallableReference("net", "build")),
        ("pkg.sub.net:build", MODEL, CallableReference("pkg.sub.net", "build")),
        ("zoo.resnet:build", MODEL, CallableReference("zoo.resnet", "build")),
        ("größe:baue", MODEL, CallableReference("größe", "baue")),
        ("zoo:resnet20", MODEL, ZooReference("resnet20")),
        ("zoo:fashion_mnist/calib", DATA, ZooReference("fashion_mnist/calib")),
        (
            "safetensors:data/calib.safetensors",
            DATA,
            SafetensorsReference("data/calib.safetensors"),
        ),
        ("text:data/calib.txt", DATA, TextReference("data/calib.txt")),
        ("images:data/photos", DATA, ImagesReference("data/photos")),
        ("metrics:f1", METRIC, CallableReference("metrics", "f1")),
    ],
)
def test_each_form_is_recognised(text, purpose, expected):
    assert parse_reference(text, purpose) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "net", "net:", ":build", "a.b:c.d", "a:b()", "a..b:c", ".a:b", "a.:b", "a:b:c",
        "a b:c", "a:b c", "a:b\n", "class:build", "net:import", "a-b:c", "zoo:", "http://x/y:z",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text):
    problem = parse_reference(text, MODEL)
    assert isinstance(problem, Diagnostic)
    assert problem.code is Code.MODEL_REFERENCE


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        ("models/net.py:build", "models.net:build"),
        ("./net.py:build", "net:build"),
        ("net:build()", "net:build"),
        ("pkg.net.build", "pkg.net:build"),
    ],
)
def test_a_path_or_a_call_gets_the_form_it_was_meant_to_have(text, guess):
    problem = parse_reference(text, MODEL)
    assert isinstance(problem, Diagnostic)
    assert problem.help == f"did you mean `{guess}`?"


@pytest.mark.parametrize(
    ("text", "purpose", "code"),
    [
        ("safetensors:a.safetensors", MODEL, Code.MODEL_REFERENCE),
        ("hf:minilm", DATA, Code.DATA_REFERENCE),
        ("zoo:resnet20", METRIC, Code.METRIC),
    ],
)
def test_a_form_for_something_else_is_refused(text, purpose, code):
    problem = parse_reference(text, purpose)
    assert isinstance(problem, Diagnostic)
    assert problem.code is code

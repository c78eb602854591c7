import copy
import json

import pytest
import torch

from qcompile.emit.graph_decode import decode
from qcompile.emit.graph_document import GraphDocument, read_graph

LINEAR = {"in_features": 2, "out_features": 3, "bias": False}
GOOD = {
    "format_version": "1.0",
    "nodes": [
        {"op": "placeholder", "name": "x", "target": "x"},
        {"op": "call_module", "name": "fc", "target": "fc", "args": [{"node": "x"}]},
        {"op": "get_attr", "name": "b", "target": "b"},
        {
            "op": "call_function",
            "name": "add",
            "target": "operator.add",
            "args": [{"node": "fc"}, {"node": "b"}],
        },
        {"op": "call_method", "name": "tanh", "target": "tanh", "args": [{"node": "add"}]},
        {"op": "output", "name": "output", "target": "output", "args": [{"node": "tanh"}]},
    ],
    "leaves": [{"path": "fc", "class_name": "torch.nn.Linear", "arguments": LINEAR}],
    "tensors": [
        {"name": "b", "kind": "buffer", "dtype": "float32", "shape": [3]},
        {"name": "fc.weight", "kind": "parameter", "dtype": "float32", "shape": [3, 2]},
    ],
}
TENSORS = {"b": torch.zeros(3), "fc.weight": torch.ones(3, 2)}


def read(document, tensors=TENSORS, absent=()):
    graph = read_graph(json.dumps(document).encode())
    return decode(graph, tensors, absent) if isinstance(graph, GraphDocument) else graph


def refused(result):
    assert isinstance(result, list), result
    assert [problem.code.number for problem in result] == ["QR909"]
    return True


def changed(place, value):
    """Return the good document with one place (a tuple of keys) set to ``value``."""
    document = copy.deepcopy(GOOD)
    inside = document
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return document


def test_the_good_document_runs():
    module = read(GOOD)
    x = torch.tensor([[1.0, 2.0]])
    assert torch.equal(module(x), torch.tanh(torch.full((1, 3), 3.0)))


FUNCTION = ("nodes", 3, "target")
METHOD = ("nodes", 4, "target")
ARGUMENTS = ("nodes", 3, "args")
CALL = 'x"), __import__("os").system("touch {marker}'


FOREIGN_FUNCTIONS = """
    builtins.eval builtins.exec builtins.__import__ os.system subprocess.run torch.load torch.save
    torch.hub.load torch.ops.load_library torch.rand torch..add torch.Tensor.add add
    operator.attrgetter operator.methodcaller operator.call qcompile.emit.load.load
"""


@pytest.mark.parametrize("name", [*FOREIGN_FUNCTIONS.split(), "", "torch.add ", " torch.add"])
def test_a_function_outside_the_vocabulary_is_refused(name):
    assert refused(read(changed(FUNCTION, name)))


@pytest.mark.parametrize(
    "name", ["__class__", "__reduce__", "numpy", "register_hook", "apply_", "tanh()", "tanh; x", ""]
)
def test_a_method_outside_the_vocabulary_is_refused(name):
    assert refused(read(changed(METHOD, name)))


@pytest.mark.parametrize("name", ["__class__", "__dict__", "grad_fn", "_base", "storage", 3, None])
def test_getattr_reads_listed_attributes_only(name):
    document = changed(FUNCTION, "builtins.getattr")
    document["nodes"][3]["args"] = [{"node": "fc"}, name]
    assert refused(read(document))


@pytest.mark.parametrize(
    "args",
    [
        ["shape", "shape"],
        [{"node": "fc"}, "shape", None],
        [{"node": "fc"}],
        [{"node": "fc"}, {"node": "b"}],
    ],
)
def test_getattr_has_a_node_and_a_name(args):
    document = changed(FUNCTION, "builtins.getattr")
    document["nodes"][3]["args"] = args
    assert refused(read(document))


@pytest.mark.parametrize(
    "value",
    [
        {"node": "tanh"},
        {"node": "add"},
        {"node": "nobody"},
        {"node": 3},
        {"node": "fc", "more": 1},
        {"dtype": "float33"},
        {"dtype": "load"},
        {"device": "cuda:x"},
        {"device": "cpu); import os"},
        {"memory_format": "load"},
        {"layout": "load"},
        {"float": "1e400"},
        {"float": "__import__('os')"},
        {"size": ["a"]},
        {"slice": [1, 2]},
        {"dict": [[1, 2]]},
        {"dict": [["a"]]},
        {"ellipsis": 1},
        {"unknown": 1},
        {},
        [1, 2],
    ],
    ids=json.dumps,
)
def test_an_argument_of_no_known_form_is_refused(value):
    assert refused(read(changed(ARGUMENTS, [{"node": "fc"}, value])))


@pytest.mark.parametrize(
    "document",
    [
        changed(("nodes", 0, "name"), "fc"),
        changed(("nodes", 0, "name"), "x y"),
        changed(("nodes", 0, "name"), "class"),
        changed(("nodes", 0, "name"), "x" * 1000),
        changed(("nodes", 0, "target"), "x, y=print()"),
        changed(("nodes", 0, "target"), "*args"),
        changed(("nodes", 0, "args"), [1]),
        changed(("nodes", 3, "kwargs"), {"a=print(), b": 1}),
        changed(("nodes", 3, "args"), [{"node": "fc"}]),
        changed(("nodes", 3, "kwargs"), {"c": 1}),
        changed(("nodes", 4, "args"), ["text"]),
        changed(("nodes", 4, "args"), []),
        changed(("nodes", 5, "args"), []),
        changed(("nodes", 5, "args"), [1, 2]),
        changed(("nodes", 2, "op"), "output"),
        changed(("nodes", 2, "op"), "root"),
        changed(("nodes", 2, "target"), "fc"),
        changed(("nodes", 2, "target"), "forward"),
        changed(("nodes", 1, "target"), "b"),
        changed(("nodes", 1, "target"), "forward"),
        changed(("nodes",), []),
        changed(("nodes",), GOOD["nodes"][:-1]),
        changed(("nodes",), GOOD["nodes"] + GOOD["nodes"][-1:]),
        changed(("leaves", 0, "class_name"), "torch.nn.LSTM"),
        changed(("leaves", 0, "class_name"), "os.system"),
        changed(("leaves", 0, "arguments"), LINEAR | {"device": "cuda"}),
        changed(("leaves", 0, "arguments"), LINEAR | {"in_features": "x"}),
        changed(("leaves", 0, "arguments"), LINEAR | {"in_features": -1}),
        changed(("leaves", 0, "arguments"), LINEAR | {"in_features": 1 << 80}),
        changed(("leaves", 0, "arguments"), LINEAR | {"in_features": {"node": "x"}}),
        changed(("leaves", 0, "arguments"), LINEAR | {"bias": True}),
        changed(("leaves", 0, "arguments"), {}),
        changed(("leaves",), GOOD["leaves"] * 2),
        changed(("tensors",), GOOD["tensors"] * 2),
        changed(("tensors",), GOOD["tensors"][:1]),
        changed(("tensors", 0, "dtype"), "float64"),
        changed(("tensors", 0, "shape"), [1 << 62, 1 << 62]),
        changed(("tensors", 0, "shape"), [-3]),
        changed(("tensors", 0, "alias"), "nobody"),
        changed(("tensors", 1, "kind"), "buffer"),
        changed(("tensors", 0, "name"), "fc.extra"),
        changed(("tensors", 0, "name"), "fc"),
        changed(("more",), 1),
        [],
        3,
        {},
    ],
    ids=lambda document: json.dumps(document)[-60:],
)
def test_a_document_that_breaks_a_rule_is_refused(document):
    assert refused(read(document))


@pytest.mark.parametrize(
    "path",
    [
        "forward",
        "graph",
        "__class__",
        "a..b",
        "a.__init__",
        "a.forward",
        "_modules",
        "",
        ".",
        'x"), print("',
        "a\\",
        "a\nb",
        "a.training",
        "\ufb01",
    ],
)
def test_a_path_that_could_end_a_string_or_hide_an_attribute_is_refused(path):
    document = changed(("tensors", 0, "name"), path)
    document["nodes"][2]["target"] = path
    assert refused(read(document, TENSORS | {path: torch.zeros(3)}))


def test_a_path_with_spaces_and_signs_is_only_a_name():
    document = changed(("tensors", 0, "name"), "blocks.0 (a)'s.b")
    document["nodes"][2]["target"] = "blocks.0 (a)'s.b"
    module = read(document, TENSORS | {"blocks.0 (a)'s.b": torch.zeros(3)})
    assert module(torch.ones(1, 2)).shape == (1, 3)


def test_no_place_of_a_document_runs_what_is_written_there(tmp_path):
    marker = tmp_path / "marker"
    call = CALL.format(marker=marker)
    for node, key in ((0, "name"), (0, "target"), (1, "target"), (2, "target"), (3, "target")):
        assert refused(read(changed(("nodes", node, key), call)))
    document = changed(("nodes", 3, "args"), [{"node": "fc"}, f"{{__import__('os')}}{call}\n"])
    with pytest.raises(TypeError):
        read(document)(torch.ones(1, 2))
    document = changed(("nodes", 5, "args"), [{"dict": [[call, {"node": "tanh"}]]}])
    assert list(read(document)(torch.ones(1, 2))) == [call]
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 500 + b"1" + b"}" * 500,
        json.dumps(changed(("nodes", 5, "args"), [json.loads("[" * 80 + "]" * 80)])).encode(),
    ],
    ids=["empty", "torn", "binary", "brackets", "deep", "deep value"],
)
def test_text_that_is_no_document_is_refused(text):
    assert refused(read_graph(text))


def test_a_document_of_a_later_program_says_so():
    (problem,) = read_graph(json.dumps(GOOD | {"format_version": "2.0"}).encode())
    assert problem.code.number == "QR908"
    assert isinstance(
        read_graph(json.dumps(GOOD | {"format_version": "1.7"}).encode()), GraphDocument
    )


def test_a_missing_tensor_is_refused_unless_it_is_to_be_replaced():
    tensors = {"b": torch.zeros(3)}
    assert refused(read(GOOD, tensors))
    module = read(GOOD, tensors, {"fc.weight"})
    assert module.fc.weight.is_meta


def test_a_leaf_of_a_hostile_size_takes_no_memory():
    document = changed(("leaves", 0, "arguments"), LINEAR | {"in_features": 1 << 40})
    assert refused(read(document))
    document["tensors"][1]["shape"] = [3, 1 << 40]
    assert read(document, TENSORS, {"fc.weight"}).fc.weight.shape == (3, 1 << 40)

import operator

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from qcompile.emit.allowed import ALL_METHODS, FUNCTIONS, NAMES
from qcompile.emit.graph_decode import decode
from qcompile.emit.graph_document import GraphDocument, read_graph
from qcompile.emit.graph_encode import encode
from qcompile.emit.graph_values import UnstorableValueError, decode_value, encode_value
from qcompile.emit.tensor_table import tensor_table
from qcompile.store.canonical import canonical_json


def there_and_back(module):
    document, problems = encode(module)
    assert problems == []
    read = read_graph(canonical_json(document.model_dump(mode="json")))
    assert read == document
    stored = {t.record.name: t.tensor for t in tensor_table(module) if t.record.alias is None}
    made = decode(read, stored)
    assert isinstance(made, fx.GraphModule), made
    return made


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return type(a) is type(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a.dtype == b.dtype and torch.equal(a, b)


def test_convolutions_compute_the_same_bits(conv_graph, conv_batch):
    assert same(there_and_back(conv_graph)(*conv_batch), conv_graph(*conv_batch))


def test_attention_with_other_sizes_computes_the_same_bits(attention_graph, attention_batch):
    found = there_and_back(attention_graph)(*attention_batch)
    assert same(found, attention_graph(*attention_batch))
    assert list(found) == ["logits", "last"]


def test_nodes_keep_their_names_and_order(attention_graph):
    names = [node.name for node in attention_graph.graph.nodes]
    assert [node.name for node in there_and_back(attention_graph).graph.nodes] == names


def test_tied_tensors_stay_tied_and_buffers_keep_their_place(attention_graph):
    attention_graph.register_buffer("ramp", attention_graph.ramp, persistent=False)
    made = there_and_back(attention_graph)
    assert made.out.weight is made.embed.weight
    assert isinstance(made.gain, nn.Parameter)
    assert "ramp" in dict(made.named_buffers())
    assert "ramp" not in made.state_dict()
    assert not any(parameter.requires_grad for parameter in made.parameters())
    assert not any(child.training for child in made.modules())


def test_encoding_does_not_depend_on_the_process(attention_graph):
    first = canonical_json(encode(attention_graph)[0].model_dump(mode="json"))
    again = canonical_json(encode(there_and_back(attention_graph))[0].model_dump(mode="json"))
    assert [n["name"] for n in GraphDocument.model_validate_json(first).model_dump()["nodes"]] == [
        n["name"] for n in GraphDocument.model_validate_json(again).model_dump()["nodes"]
    ]
    assert first == canonical_json(encode(attention_graph)[0].model_dump(mode="json"))


VALUES = [
    None,
    True,
    3,
    -0.5,
    1.0,
    1e300,
    float("inf"),
    float("-inf"),
    "text",
    (1, (2.0, [3, None])),
    [],
    {"a": (1,), "b": {"c": "d"}},
    slice(None, 3, -1),
    ...,
    torch.float16,
    torch.int64,
    torch.device("cuda", 1),
    torch.channels_last,
    torch.strided,
    torch.Size([2, 3]),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_with_its_type(value):
    written = encode_value(value)
    read = decode_value(read_json(written), {})
    assert read == value
    assert type(read) is type(value)
    assert str(decode_value(encode_value(float("nan")), {})) == "nan"


@pytest.mark.parametrize("value", [1j, b"x", {1}, object(), torch.zeros(2), print, torch.nn.Linear])
def test_a_value_without_a_form_is_refused(value):
    with pytest.raises(UnstorableValueError):
        encode_value(value)


def read_json(value):
    document = {"nodes": [{"op": "output", "name": "o", "target": "output", "args": [value]}]}
    read = read_graph(canonical_json(document | {"leaves": [], "tensors": []}))
    return read.nodes[0].args[0]


def test_every_name_of_the_vocabulary_resolves_to_its_own_function():
    for name, function in FUNCTIONS.items():
        assert FUNCTIONS[NAMES[function]] is function
        assert callable(function), name
    assert NAMES[F.linear] == "torch.nn.functional.linear"
    assert NAMES[operator.getitem] == "operator.getitem"
    assert all(hasattr(torch.Tensor, name) for name in ALL_METHODS)


OUTSIDE = """
    torch.load torch.save torch.from_file torch.rand builtins.eval builtins.exec builtins.open
    builtins.setattr operator.attrgetter operator.methodcaller
"""


@pytest.mark.parametrize("name", OUTSIDE.split())
def test_what_reaches_outside_is_no_part_of_the_vocabulary(name):
    assert name not in FUNCTIONS


@pytest.mark.parametrize(
    "name", ["apply_", "map_", "numpy", "data_ptr", "share_memory_", "register_hook", "random_"]
)
def test_methods_that_run_code_or_draw_numbers_are_no_part_of_it(name):
    assert name not in ALL_METHODS


def graph_with(build):
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(build(graph, x))
    root = nn.Module()
    root.lstm = nn.LSTM(2, 2)
    root.number = 3
    return fx.GraphModule(root, graph)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda g, x: g.call_function(torch.rand_like, (x,)), "torch.rand_like"),
        (lambda g, x: g.call_function(print, (x,)), "builtins.print"),
        (lambda g, x: g.call_function(same, (x, x)), "same"),
        (lambda g, x: g.call_function(getattr, (x, "grad_fn")), "grad_fn"),
        (lambda g, x: g.call_function(torch.add, (x, 1j)), "complex"),
        (lambda g, x: g.call_method("numpy", (x,)), "Tensor.numpy"),
        (lambda g, x: g.call_module("lstm", (x,)), "LSTM"),
        (lambda g, x: g.create_node("get_attr", "number"), "number"),
    ],
)
def test_an_operation_outside_the_vocabulary_is_named_when_it_is_to_be_stored(build, named):
    module = graph_with(build)
    _, problems = encode(module)
    assert [problem.code.number for problem in problems] == ["QR530"]
    assert named in problems[0].message
    name = next(n.name for n in module.graph.nodes if n.op not in ("placeholder", "output"))
    assert f"`{name}`" in problems[0].subject

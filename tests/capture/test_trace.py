import pytest
import torch
from torch import nn
from torch.nn import functional

from qcompile.capture.copying import own_graph
from qcompile.capture.node_meta import facts
from qcompile.capture.trace import trace
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.failure import CompileError
from tests.capture.traced_models import CASES, tensors
from tests.tiny_models import Mlp, SharedNet, seeded


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", CASES)
def test_graph_equals_the_model_on_new_inputs_of_another_size(captured, name):
    case, model, found = captured(name)
    assert found.method == "fake"
    assert all(item.above_one for item in found.specialisations)
    for rows, length in ((3, 11), (1, 4)):
        new = case.batch(rows, length, seed=rows)
        with torch.no_grad():
            expected = tensors(model(**new, **case.options))
            made = tensors(found.module(**new))
        assert len(made) == len(expected) > 0
        for ours, theirs in zip(made, expected, strict=True):
            # the model itself may take fused attention, which sums in another order
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "encoder"])
def test_symbolic_trace_would_not_do(captured, name):
    _, model, _ = captured(name)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever torch.fx raises first
        torch.fx.symbolic_trace(model)


@pytest.mark.parametrize("name", ["conv_net", "llama", "shared_net"])
def test_model_is_left_as_it_was(name):
    case = CASES[name]
    model = case.model()
    before, names = state_of(model), [n for n, _ in model.named_modules()]
    call = nn.Module.__call__
    trace(model, (), {**case.batch(2, 7), **case.options})
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert names == [n for n, _ in model.named_modules()]
    assert nn.Module.__call__ is call


def test_parameters_are_shared_under_their_own_paths(captured):
    _, model, found = captured("llama")
    theirs = dict(model.named_parameters())
    ours = dict(found.module.named_parameters())
    assert set(ours) == set(theirs)
    assert all(ours[path] is theirs[path] for path in theirs)


def test_own_layers_are_entered_and_torch_layers_are_leaves(captured):
    _, _, found = captured("llama")
    leaves = {str(n.target) for n in found.module.graph.nodes if n.op == "call_module"}
    assert "model.layers.0.self_attn.q_proj" in leaves
    assert not any(path.endswith("layernorm") for path in leaves)


def test_size_arithmetic_stands_right_after_the_inputs(captured):
    _, _, found = captured("llama")
    nodes = list(found.module.graph.nodes)
    hoisted = [index for index, node in enumerate(nodes) if facts(node).hoisted]
    inputs = [index for index, node in enumerate(nodes) if node.op == "placeholder"]
    assert inputs + hoisted == list(range(len(inputs) + len(hoisted)))
    assert len(hoisted) > 1


def test_facts_name_free_and_fixed_sizes(captured):
    _, _, found = captured("residual_net")
    known = facts(next(n for n in found.module.graph.nodes if n.name == "blocks_1_conv1"))
    batch, *fixed = known.shape
    assert isinstance(batch, str)
    assert fixed == [8, 4, 4]
    assert known.example == (2, 8, 4, 4)
    assert known.dtype == "float32"
    assert [(call.path, call.class_name) for call in known.stack] == [
        ("blocks", "Sequential"),
        ("blocks.1", "ResidualBlock"),
    ]
    assert known.stack[1].container == "blocks"


def test_second_call_of_a_module_is_counted(captured):
    _, _, found = captured("shared_net")
    calls = [facts(n).call for n in found.module.graph.nodes if n.target == "mix"]
    assert calls == [0, 1]


class Writes(nn.Module):
    def forward(self, x, unused):
        y = x * 2
        y += 1
        functional.relu(y, inplace=True)
        y[:, 0] = 7.0
        return {"y": y, "pair": (y.max(1), 3 - x)}


def test_writes_in_place_and_nested_outputs_and_unused_inputs_stay():
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    module = trace(Writes(), (x, x), {}).module
    new = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    ours, theirs = module(new, new), Writes()(new, new)
    assert set(ours) == {"y", "pair"}
    assert torch.equal(ours["y"], theirs["y"])
    assert torch.equal(ours["pair"][0][1], theirs["pair"][0][1])
    assert torch.equal(ours["pair"][1], theirs["pair"][1])
    assert [n.target for n in module.graph.nodes if n.op == "placeholder"] == ["x", "unused"]


class Nested(nn.Module):
    def forward(self, pair, *rest, scale=2.0):
        first, second = pair["a"], pair["b"][0]
        return (first + second.reshape(first.shape[0], -1)) * scale + rest[0]


def test_tensors_inside_containers_are_inputs():
    def inputs(n):
        return {"a": torch.ones(n, 6), "b": (torch.ones(n, 2, 3),)}, torch.ones(n, 6)

    found = trace(Nested(), inputs(2), {"scale": 3.0})
    assert found.method == "fake"
    assert torch.equal(found.module(*inputs(5)), Nested()(*inputs(5), scale=3.0))


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.arange(4.0)

    def forward(self, x):
        return x + self.table


def test_plain_tensor_attribute_becomes_a_constant_of_the_graph_alone():
    model = Constant()
    module = trace(model, (torch.zeros(2, 4),), {}).module
    assert dict(module.named_buffers()).keys() == {"_constant_0"}
    assert torch.equal(module(torch.ones(3, 4)), model(torch.ones(3, 4)))
    assert not list(model.buffers())


class Held(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("kept", torch.ones(4))
        self.register_buffer("made", torch.arange(4.0), persistent=False)
        self.plain = torch.full((4,), 2.0)

    def forward(self, x):
        return x * self.kept + self.made + self.plain


def test_the_graph_keeps_in_its_state_what_the_model_keeps():
    model = nn.Sequential(Held(), nn.Linear(4, 2))
    module = trace(model, (torch.zeros(2, 4),), {}).module
    assert module.state_dict().keys() == model.state_dict().keys()
    assert {"0.kept", "0.made"} < dict(module.named_buffers()).keys()
    assert torch.equal(module(torch.ones(3, 4)), model(torch.ones(3, 4)))
    copied = own_graph(module)
    assert copied.state_dict().keys() == model.state_dict().keys()
    assert dict(copied.named_buffers()).keys() == dict(module.named_buffers()).keys()


class Raises(nn.Module):
    def forward(self, x):
        raise ValueError("no such thing")


def test_untraceable_model_points_at_its_own_line_and_leaves_torch_alone():
    call = nn.Module.__call__
    with pytest.raises(CompileError) as raised:
        trace(Raises(), (torch.ones(2, 3),), {})
    (diagnostic,) = [d for d in raised.value.diagnostics if d.code is Code.NOT_TRACEABLE]
    assert diagnostic.subject.startswith(f"{__file__}:")
    assert "no such thing" in diagnostic.notes[0]
    assert diagnostic.help
    assert nn.Module.__call__ is call
    assert torch.backends.mha.get_fastpath_enabled()


def test_train_mode_is_switched_off_and_reported():
    model = seeded(Mlp()).train()
    found = trace(model, (torch.ones(2, 8),), {})
    assert [d.code for d in found.diagnostics] == [Code.TRAIN_MODE]
    assert not model.training


def test_a_single_example_row_leaves_the_batch_free():
    model = seeded(SharedNet())
    found = trace(model, (torch.zeros(1, 1, dtype=torch.long),), {})
    assert found.specialisations == ()
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert torch.equal(found.module(ids), model(ids))


def test_weights_without_data_are_enough():
    model = seeded(Mlp()).to("meta")
    found = trace(model, (torch.zeros(2, 8),), {})
    assert found.method == "fake"
    assert len(found.module.graph.nodes) == 6

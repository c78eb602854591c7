"""Which values may be the same memory, on graphs of small models."""

import operator

import pytest
import torch
from torch import nn

from qcompile.capture.extract import extract
from qcompile.capture.memory import makes_memory, memory_of, overwritten, written_memory
from qcompile.capture.trace import trace
from qcompile.capture.unit import Unit


def graph_of(forward, inputs=1):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU(inplace=True)
            self.pad = nn.ZeroPad2d(1)

    Net.forward = forward
    return trace(Net().eval(), tuple(torch.randn(3, 4) for _ in range(inputs)), {}).module


def node(module, name):
    return next(one for one in module.graph.nodes if one.name == name)


def names(nodes):
    return {one.name for one in nodes}


@pytest.mark.parametrize(
    ("call", "is_new"),
    [
        (lambda x: x.exp(), True),
        (lambda x: torch.relu(x), True),
        (lambda x: torch.stack((x, x)), True),
        (lambda x: x.view(-1), False),
        (lambda x: x.t(), False),
        (lambda x: torch.relu_(x), False),
        (lambda x: x.ravel(), False),
    ],
)
def test_what_is_not_known_to_make_memory_may_be_a_view(call, is_new):
    module = graph_of(lambda self, x: call(x))
    (made,) = (one for one in module.graph.nodes if one.op.startswith("call"))
    assert makes_memory(module, made) is is_new
    assert ("x" in names(memory_of(module, made))) is not is_new


def test_a_sum_in_place_is_the_memory_of_its_first_operand_alone():
    def forward(self, x, z):
        return torch.relu_(x.exp().__iadd__(z))

    module = graph_of(forward, 2)
    assert names(memory_of(module, node(module, "add_"))) == {"add_", "exp"}
    assert names(written_memory(module, node(module, "relu_"))) == {"add_", "exp"}


def test_what_is_given_as_out_is_written_to():
    def forward(self, x, y):
        return torch.add(x, 1, out=y)

    module = graph_of(forward, 2)
    assert names(written_memory(module, node(module, "add"))) == {"y"}
    assert names(memory_of(module, node(module, "add"))) == {"add", "y"}


def test_a_module_that_works_in_place_writes_through_a_view():
    module = graph_of(lambda self, x: self.relu(x.exp().view(-1)))
    assert names(written_memory(module, node(module, "relu"))) == {"view", "exp"}
    assert written_memory(module, node(module, "exp")) == frozenset()


def test_views_of_what_is_written_to_change_as_well():
    def forward(self, x):
        y = x.exp()
        seen, rest = y.view(-1), y.mean()
        return y.mul_(2).view(-1), seen, rest

    module = graph_of(forward)
    assert names(overwritten(module, node(module, "mul_"))) == {"exp", "view"}


@pytest.mark.parametrize(
    "write",
    [
        lambda a, b: torch.add(a, 1, out=b),
        lambda a, b: b.ravel().add_(1),
        lambda a, b: operator.iadd(b.view(-1), a.view(-1)),
        lambda a, b: operator.setitem(b, 0, a[0]),
    ],
)
def test_a_unit_writes_to_a_copy_of_what_comes_in(write):
    def forward(self, a, b):
        write(a, b)
        return b * 2

    module = graph_of(forward, 2)
    inner = tuple(one.name for one in module.graph.nodes if one.op.startswith("call"))
    unit = Unit("all", inner, ("a", "b"), (inner[-1],), is_block=True)
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    kept = a.clone(), b.clone()
    (made,) = extract(module, unit)(a, b)
    assert torch.equal(a, kept[0])
    assert torch.equal(b, kept[1])
    assert torch.equal(made, module(a.clone(), b.clone()))


@pytest.mark.parametrize(
    ("write", "targets"),
    [
        (lambda x, y: torch.clamp_(min=y, input=x), {"x"}),
        (lambda x, y: torch.clamp_(x, min=y), {"x"}),
        (lambda x, y: torch._foreach_add_([x, y], 1), {"x", "y"}),
    ],
)
def test_what_is_written_to_is_told_from_what_is_read(write, targets):
    def forward(self, x, y):
        write(x, y)
        return x + y

    module = graph_of(forward, 2)
    (wrote,) = (n for n in module.graph.nodes if written_memory(module, n))
    assert names(written_memory(module, wrote)) == targets


def test_a_cast_to_another_type_makes_memory_and_padding_does():
    def forward(self, x):
        return (x > 0).float(), nn.functional.pad(x, (1, 1)), self.pad(x)

    module = graph_of(forward)
    for made in module.graph.nodes:
        if made.op.startswith("call"):
            assert makes_memory(module, made), made.name

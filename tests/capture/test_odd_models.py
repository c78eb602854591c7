"""Models that are small, bare, oddly named, or use one weight in several ways."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from qcompile.capture.blocks import find_units
from qcompile.capture.extract import extract
from qcompile.capture.sites import find_sites
from qcompile.capture.trace import trace
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.failure import CompileError
from tests.tiny_models import seeded


def rows(n=3, seed=0):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))


def captured(model, *example):
    """The graph, which does what ``model`` does, and whose sites and units have names."""
    module = trace(seeded(model), example, {}).module
    new = tuple(torch.cat([part, part]) for part in example)
    assert torch.equal(module(*new), model(*new))
    sites, (units, problems) = find_sites(module), find_units(module)
    assert problems == []
    assert len({site.key for site in sites}) == len(sites)
    assert len({unit.name for unit in units}) == len(units)
    for unit in units:
        extract(module, unit)
    return [site.key for site in sites], [unit.name for unit in units]


class Two(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.fc, self.head, self.step = nn.Linear(4, 4), nn.Linear(4, 4), step

    def forward(self, x):
        return self.step(self, x)


@pytest.mark.parametrize(
    ("step", "keys"),
    [
        (lambda m, x: m.fc(functional.linear(x, m.fc.weight)), ["fc@1", "fc"]),
        (lambda m, x: functional.linear(m.fc(x), m.fc.weight), ["fc", "fc@1"]),
        (lambda m, x: functional.linear(m.fc(m.fc(x)), m.fc.weight), ["fc", "fc@1", "fc@2"]),
        (
            lambda m, x: m.head(functional.linear(m.head(x), m.fc.weight, m.fc.bias)),
            ["head", "fc", "head@1"],
        ),
    ],
)
def test_a_weight_that_is_used_as_module_and_by_function(step, keys):
    assert captured(Two(step), rows())[0] == keys


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.fc = nn.Embedding(8, 4), nn.Linear(4, 4)

    def forward(self, ids):
        return functional.linear(self.fc(self.emb(ids)), self.emb.weight)


def test_a_head_that_reads_the_weight_of_the_embedding():
    keys, _ = captured(Tied(), torch.ones(3, 2, dtype=torch.long))
    assert keys == ["emb", "fc", "emb@1"]


class Named(nn.Module):
    def __init__(self, *names):
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(4, 4))

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


def test_any_printable_name_will_do():
    names = ["a b", "it's", "*", "a[0]", "<script>", "\U0001f389", "x" * 10_000, "0", "é", "x"]
    assert captured(Named(*names), rows()) == (names, names)


@pytest.mark.parametrize(
    "name",
    ['a"b', "a\\b", "a\nb", "class", "None", "graph", "meta", "recompile", '");print(1);("'],
)
def test_a_name_that_the_code_of_a_graph_cannot_say_is_refused(name):
    with pytest.raises(CompileError) as refused:
        trace(seeded(Named("fine", name)), (rows(),), {})
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.code is Code.NOT_TRACEABLE
    assert diagnostic.message.isprintable()
    assert diagnostic.help.startswith("rename it")


class SameName(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.add_module("a@1", nn.Linear(4, 4))
        self.add_module("_constant_0", nn.Linear(4, 4))
        self.table, self.other = torch.arange(4.0), torch.ones(4)

    def forward(self, x):
        x = self._modules["a@1"](self.a(self.a(x))) * self.other
        return functional.linear(self._modules["_constant_0"](x + self.table), self.a.weight)


def test_names_that_look_like_those_of_the_tracer():
    keys, _ = captured(SameName(), rows())
    assert keys == ["a", "a@2", "a@1", "mul", "add", "_constant_0", "a@3"]


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, 4))
        self.several = nn.ParameterList([nn.Parameter(torch.empty(4, 4))])
        self.named = nn.ParameterDict({"one": nn.Parameter(torch.empty(4, 4))})
        self.phase = nn.Parameter(torch.ones(4, dtype=torch.complex64))

    def forward(self, x):
        x = functional.linear(x @ self.weight, self.several[0]) @ self.named["one"]
        return torch.fft.ifft(torch.fft.fft(x) * self.phase).real


def test_parameters_of_no_layer_and_complex_numbers():
    keys, _ = captured(Bare(), rows())
    assert keys == ["weight", "several.0", "named.one"]


class OnlyBuffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.ones(4))

    def forward(self, x):
        return x + self.shift


@pytest.mark.parametrize("model", [nn.Identity(), nn.Sequential(), OnlyBuffers()])
def test_models_without_a_layer(model):
    assert captured(model, rows())[0] == []


def test_a_layer_is_a_model():
    assert captured(nn.Linear(4, 4), rows()) == (["weight"], ["weight"])


class NoInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4))

    def forward(self):
        return self.weight * 2


def test_a_model_without_inputs():
    model = seeded(NoInput())
    assert torch.equal(trace(model, (), {}).module(), model.weight * 2)

"""Commands on models that are bare or oddly named: an answer, never a traceback."""

import json
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from qcompile.cli.main import main

NAMES = ("a b", "it's", "*", "a[0]", "<script>", "\U0001f389", "x" * 10_000)
NETS = f"""
import torch
from torch import nn


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        for name in {NAMES!r}:
            self.add_module(name, nn.Linear(8, 8))

    def forward(self, x):
        for layer in self.children():
            x = torch.tanh(layer(x))
        return x


class Buffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.ones(8))

    def forward(self, x):
        return x + self.shift


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8, dtype=torch.complex64), nn.Linear(8, 4)

    def forward(self, x):
        return self.b(self.a(x.to(torch.complex64)).real)


class Loose(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 8))
        self.gain, self.unused = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x @ self.weight * self.gain


class Crowd(nn.Module):
    def __init__(self):
        super().__init__()
        self.rest = nn.ModuleList(nn.Identity() for _ in range(100_000))
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.last(self.rest[99_999](self.first(x)))


def crowd():
    return Crowd().eval()


def odd():
    return Odd().eval()


def identity():
    return nn.Identity().eval()


def no_children():
    return nn.Sequential().eval()


def buffers():
    return Buffers().eval()


def one_layer():
    return nn.Linear(8, 4).eval()


def complex_numbers():
    return Complex().eval()


def loose():
    return Loose().eval()
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qcompile.toml").write_text("")
    (tmp_path / "nets.py").write_text(NETS)

    def written(net, rule="optional use w8 for linear"):
        path = tmp_path / "net.qrecipe"
        path.write_text(
            f'qrecipe 1\nmodel "nets:{net}" {{ input = float32[batch, 8] }}\n'
            f"scheme w8 {{ weight int8 }}\npolicy main {{ {rule} }}\n"
        )
        return str(path)

    return written


def answered(*arguments):
    result = CliRunner().invoke(main, list(arguments))
    assert "internal error" not in result.output
    assert "Traceback" not in result.output
    return result


@pytest.mark.parametrize(
    ("net", "sites", "said"),
    [
        ("identity", 0, ""),
        ("no_children", 0, ""),
        ("buffers", 0, ""),
        ("one_layer", 1, ""),
        ("loose", 1, ""),
        ("complex_numbers", 1, "QR519"),
    ],
)
@pytest.mark.parametrize("preview", [(), ("--preview",)])
def test_model_with_next_to_nothing_has_a_plan(recipe, net, sites, said, preview):
    result = answered("plan", recipe(net), "--json", *preview)
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert len(document["plan"]["core"]["sites"]) == sites
    assert [item["code"] for item in document["diagnostics"]] == ([said] if said else [])


def test_a_hundred_thousand_modules_are_no_more_than_those_that_are_called(recipe):
    """All of them called: ``make bench-plan``."""
    result = answered("plan", recipe("crowd", "use w8 for linear"), "--json")
    assert result.exit_code == 0
    sites = json.loads(result.stdout)["plan"]["core"]["sites"]
    assert [site["key"] for site in sites] == ["first", "last"]
    wrong = answered("plan", recipe("crowd", 'use w8 for "furst"'))
    assert wrong.exit_code == 1
    assert "error[QR301" in wrong.stderr


@pytest.mark.parametrize("net", ["identity", "buffers"])
def test_layers_that_are_not_there_are_said_to_be_missing(recipe, net):
    result = answered("plan", recipe(net, "use w8 for linear"))
    assert result.exit_code == 1
    assert "error[QR30" in result.stderr


def test_odd_names_are_shown_in_every_form(recipe, tmp_path):
    path = recipe("odd", "use w8 for linear")
    shown = answered("plan", path, "--full")
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in NAMES[:6])
    document = json.loads(answered("plan", path, "--json").stdout)
    assert [site["key"] for site in document["plan"]["core"]["sites"]] == list(NAMES)
    markdown = answered("plan", path, "--format", "markdown").stdout
    assert "<script>" not in markdown
    assert answered("plan", path, "--graph", "g.svg").exit_code == 0
    texts = [element.text for element in ElementTree.parse(tmp_path / "g.svg").iter()]
    assert any(text and "<script>" in text for text in texts)
    assert "<script>" not in (tmp_path / "g.svg").read_text()


@pytest.mark.parametrize(
    ("pattern", "name"),
    [('"a b"', "a b"), ('"it\'s"', "it's"), (r'"\\*"', "*"), (r'"a\\[0\\]"', "a[0]")],
)
def test_odd_names_are_selected_by_an_escaped_pattern(recipe, pattern, name):
    found = json.loads(answered("select", pattern, recipe("odd"), "--json").stdout)
    assert [site["key"] for site in found["sites"]] == [name]

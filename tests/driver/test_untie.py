"""`set untie`: a layer gets a copy of a weight that others read; the function stays as it is."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import qcompile
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.block_graph import block_graph
from qcompile.driver.load import verify
from qcompile.driver.plan import make_plan
from qcompile.driver.site_trace import site_trace
from tests.tiny_models import SharedNet, seeded

SCHEMES = """\
qrecipe 1
model "memory:net"
scheme w4 { weight int4 }
scheme w8 { weight int8 }
"""
IDS = torch.arange(48).view(8, 6) % 11


class Twins(nn.Module):
    """Two convolutions with one weight, each before a norm of its own."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.b = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.b.weight = self.a.weight
        self.norm_a, self.norm_b = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm_b(self.b(torch.relu(self.norm_a(self.a(x)))))


class BackAndForth(nn.Module):
    def __init__(self):
        super().__init__()
        self.forth = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.back = nn.ConvTranspose2d(4, 4, 3, padding=1, bias=False)
        self.back.weight = self.forth.weight

    def forward(self, x):
        return self.back(torch.relu(self.forth(x)))


class CalledTwice(nn.Module):
    """``mix`` runs twice, and ``other`` reads its weight."""

    def __init__(self):
        super().__init__()
        self.mix, self.other = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.other.weight = self.mix.weight

    def forward(self, x):
        return self.other(torch.tanh(self.mix(torch.tanh(self.mix(x)))))


class Aliased(nn.Module):
    """A function reads the table of the embedding: under the name of its own, or under that."""

    def __init__(self, name):
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=2)
        self.scores = self.embed.weight if name == "scores" else None

    def forward(self, ids):
        x = torch.tanh(self.embed(ids))
        return nn.functional.linear(x, self.embed.weight if self.scores is None else self.scores)


def bound(folder, *rules, model=None, x=IDS, rest=""):
    lines = "\n".join(f"  {rule}" for rule in rules)
    path = Path(folder, "net.qrecipe")
    path.write_text(f"{SCHEMES}policy main {{\n{lines}\n}}\n{rest}")
    return qcompile.bind(qcompile.load_recipe(path), model or seeded(SharedNet()), (x[:2],))


def refused(*arguments, **named):
    with pytest.raises(CompileError) as caught:
        bound(*arguments, **named)
    return [one.code.number for one in caught.value.diagnostics if one.is_error]


def formats(made):
    return {site.key: str(site.tensors[0].spec.format) for site in made.core.sites if site.tensors}


HEAD = ("use w8 for linear", 'set untie = true for "head"')


def test_without_it_two_formats_are_refused_and_the_way_out_is_said(tmp_path):
    with pytest.raises(CompileError) as caught:
        bound(tmp_path, "use w8 for linear")
    (problem,) = caught.value.diagnostics
    assert problem.code.number == "QR502"
    assert 'a copy of its own: `set untie = true for "head"`' in problem.help


def test_the_others_keep_the_tensor_and_the_function_stays(tmp_path):
    model = seeded(SharedNet())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = bound(tmp_path, *HEAD, model=model)
    assert torch.equal(made.graph(IDS), model(IDS))
    assert model.head.weight is model.embed.weight  # the caller's own is as it was
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    (copy,) = made.transforms
    assert (copy.name, copy.target, copy.parameters) == ("untie", "head", ("head.weight",))


def test_each_is_stored_in_its_own_format_and_bytes_are_as_forecast(tmp_path):
    table = 11 * 8 * 4
    made = bound(tmp_path, *HEAD)
    plan = qcompile.plan(made)
    assert plan.core.bytes_before == sum(p.numel() * 4 for p in seeded(SharedNet()).parameters())
    tied = qcompile.plan(bound(tmp_path, "use w8 for linear or embedding"))
    assert plan.core.bytes_after == tied.core.bytes_after + table
    out = tmp_path / "out"
    quantized = qcompile.run(plan, out, bound=made)
    stored = load_file(out / "model.safetensors")
    assert torch.equal(stored["embed.weight"], seeded(SharedNet()).embed.weight)
    assert any(name.startswith("head.weight:") for name in stored)
    assert verify(out) == []
    assert sum(value.nbytes for value in stored.values()) == plan.core.bytes_after
    wanted = qcompile.run(
        qcompile.plan(bound(tmp_path, "use w8 for linear or embedding")),
        tmp_path / "tied",
        bound=bound(tmp_path, "use w8 for linear or embedding"),
    )
    assert not torch.equal(quantized(IDS), wanted(IDS))  # the table is not rounded here


def test_both_may_be_quantized_and_where_all_are_untied_the_first_keeps_the_tensor(tmp_path):
    rules = ("use w8 for linear", "use w4 for embedding", 'set untie = true for "head" or "embed"')
    made = bound(tmp_path, *rules)
    assert [one.parameters for one in made.transforms] == [("head.weight",)]
    assert formats(qcompile.plan(made)) == {
        "embed": "int4",
        "mix": "int8",
        "mix@1": "int8",
        "head": "int8",
    }


def test_a_preview_plans_it_as_well(tmp_path):
    made = bound(tmp_path, *HEAD)
    path = tmp_path / "net.qrecipe"
    recipe = qcompile.load_recipe(path)
    with torch.device("meta"):
        empty = SharedNet().eval()
    empty.head.weight = empty.embed.weight
    seen = qcompile.bind(recipe, empty, (IDS[:2].to("meta"),), preview=True)
    assert qcompile.plan(seen).core.bytes_after == qcompile.plan(made).core.bytes_after


def test_calls_of_one_module_and_names_that_are_read_twice_stay_one(tmp_path):
    both = "use w8 for linear or embedding"
    assert refused(tmp_path, both, 'set untie = true for "mix"') == ["QR290"]
    rules = (both, "set untie = true for linear")
    assert refused(tmp_path, *rules, model=seeded(Aliased("embed"))) == ["QR290"]


def test_a_function_that_reads_another_name_gets_a_copy_under_it(tmp_path):
    model = seeded(Aliased("scores"))
    made = bound(tmp_path, "use w8 for linear", "set untie = true for linear", model=model)
    assert torch.equal(made.graph(IDS), model(IDS))
    assert [one.parameters for one in made.transforms] == [("scores",)]
    qcompile.run(qcompile.plan(made), tmp_path / "out", bound=made)
    stored = load_file(tmp_path / "out/model.safetensors")
    assert torch.equal(stored["embed.weight"], model.embed.weight)


def test_a_copied_module_keeps_its_other_arguments(tmp_path):
    rules = ("use w8 for embedding", "set untie = true for embedding")
    made = bound(tmp_path, *rules, model=seeded(Aliased("scores")))
    assert made.graph.get_submodule("embed").padding_idx == 2


def test_layers_that_are_untied_take_in_the_norms_behind_them(tmp_path):
    model, x = seeded(Twins()), torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    tied = bound(tmp_path, "use w8 for conv", model=model, x=x)
    assert not tied.transforms
    free = bound(tmp_path, "use w8 for conv", 'set untie = true for "b"', model=model, x=x)
    assert [one.name for one in free.transforms] == ["untie", "fold_bn", "fold_bn"]
    torch.testing.assert_close(free.graph(x), model(x))


def test_a_budget_chooses_for_each_alone(tmp_path):
    rest = (
        "budget { avg_bits(weight) <= 6 }\n"
        'calibrate { data = "memory:x"; samples = 8; batch = 4; seed = 1 }\n'
    )
    rules = ("choose w4, w8 for linear or embedding", 'set untie = true for "head"')
    made = qcompile.plan(bound(tmp_path, *rules, rest=rest), IDS)
    groups = {group.sites for group in made.beside.choice.groups}
    assert groups == {("embed",), ("head",), ("mix", "mix@1")}


def test_views_of_the_plan_know_that_nothing_is_shared(tmp_path):
    tied = make_plan(bound(tmp_path, "use w8 for linear or embedding"))
    free = make_plan(bound(tmp_path, *HEAD))
    assert site_trace(tied, "head").site.tied_to == "embed.weight"
    traced = site_trace(free, "head").site
    assert (traced.tied_to, traced.shared) == (None, False)
    sharing = [[box.name for box in block_graph(one).boxes if box.sharing] for one in (tied, free)]
    assert sharing == [["embed", "mix", "mix@1", "head"], ["mix", "mix@1"]]


def test_what_is_folded_away_is_no_copy(tmp_path):
    model, x = seeded(Twins()), torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    model.norm_b.weight = model.norm_a.weight
    rules = ("use w8 for conv", 'set untie = true for "b" or "norm_b"')
    made = bound(tmp_path, *rules, model=model, x=x)
    assert [one.parameters for one in made.transforms if one.name == "untie"] == [("b.weight",)]
    torch.testing.assert_close(made.graph(x), model(x))


def test_the_way_out_names_a_layer_that_can_have_a_copy(tmp_path):
    rules, x = ("use w8 for linear", 'use w4 for "mix"'), torch.randn(4, 8)
    with pytest.raises(CompileError) as caught:
        bound(tmp_path, *rules, model=seeded(CalledTwice()), x=x)
    problem = next(one for one in caught.value.diagnostics if one.code.number == "QR502")
    assert 'set untie = true for "other"' in problem.help
    assert bound(tmp_path, *rules, 'set untie = true for "other"', model=CalledTwice().eval(), x=x)


def test_channels_along_other_axes_are_another_format(tmp_path):
    rules = ("use w8 for conv",)
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    assert refused(tmp_path, *rules, model=seeded(BackAndForth()), x=x) == ["QR502"]
    with pytest.raises(CompileError) as caught:
        bound(tmp_path, *rules, model=seeded(BackAndForth()), x=x)
    assert caught.value.diagnostics[0].help.startswith("make it `per_tensor`, `skip` both, or")
    free = bound(tmp_path, *rules, 'set untie = true for "back"', model=seeded(BackAndForth()), x=x)
    assert len(free.transforms) == 1
    rules = (*rules, "set weight.granularity = per_tensor for conv")
    one = bound(tmp_path, *rules, model=seeded(BackAndForth()), x=x)
    qcompile.run(qcompile.plan(one), tmp_path / "out", bound=one)
    assert verify(tmp_path / "out") == []


def test_what_shares_nothing_has_nothing_to_untie(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).eval()
    rules = ("use w8 for linear", "set untie = true for linear")
    assert refused(tmp_path, *rules, model=model, x=torch.randn(4, 4)) == ["QR306"]


def test_the_last_line_counts_a_final_one_stays_and_a_use_forgets(tmp_path):
    back = 'set untie = false for "head"'
    assert refused(tmp_path, *HEAD, back) == ["QR502"]
    final = ("use w8 for linear", 'final set untie = true for "head"')
    assert refused(tmp_path, *final, back) == ["QR304"]
    assert bound(tmp_path, *final, 'set untie = true for "head"').transforms
    assert refused(tmp_path, 'set untie = true for "head"', "use w8 for linear") == ["QR502"]
    late = bound(tmp_path, *HEAD, "use w8 for linear or embedding")
    assert "QR303" in [one.code.number for one in late.diagnostics]
    undone = bound(tmp_path, "use w8 for linear or embedding", HEAD[1], back)
    (lost,) = [one for one in undone.diagnostics if one.code.number == "QR303"]
    assert [label.span.text for label in lost.secondary] == [back]
    plain = nn.Sequential(nn.Linear(4, 4)).eval()
    rules = ("use w8 for linear", "set untie = false for linear")
    assert not bound(tmp_path, *rules, model=plain, x=torch.randn(4, 4)).transforms

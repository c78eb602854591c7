"""`choose`: measured, allotted within the budget, planned, saved, and run as it was chosen."""

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import nn

import qcompile
from qcompile.cli.main import main
from qcompile.cli.plan_view import plan_text
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.choose import SAMPLES
from qcompile.driver.diff import diff
from qcompile.driver.load import verify
from qcompile.driver.measured import Saved
from qcompile.driver.plan import make_plan, plan_recipe
from qcompile.driver.progress import StopRequestedError
from qcompile.driver.recipe_test import run_test
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from qcompile.driver.saved_plan import save_plan
from qcompile.passes.loss_increase import loss_increases
from tests.driver.project import RECIPE, make_project
from tests.tiny_models import SharedNet, seeded

QUIET = RunOptions(work=Path("state"))
LADDER = """scheme w2a8 extends w4a8 {
  weight with bits=2
}
scheme w8a8 extends w4a8 {
  weight with bits=8
}
policy"""
CHOICE = (
    RECIPE.replace("policy", LADDER, 1)
    .replace("  # qcompile: ignore[QR511] the first layer as all others", "")
    .replace("use w4a8 for", "choose w2a8, w4a8, w8a8 for")
    .replace('skip "head"', 'use w8a8 for "head"')
)
TIED = """\
qrecipe 1
model "memory:net"
scheme w2 { weight int2 }
scheme w8 { weight int8 }
policy main { choose w2, w8 for linear or embedding }
budget { avg_bits(weight) <= 6 }
calibrate { data = "memory:x"; samples = 8; batch = 4; seed = 1 }
"""
FLOAT_TOP = """scheme w8 { weight int8 }
scheme w2a8 { weight int2; act int8 }
scheme free { weight float }"""
OPEN = ("conv", *(f"blocks.{block}.conv{conv}" for block in (0, 1) for conv in (1, 2)))


def within(*limits):
    rows = "; ".join([*limits, "minimize loss_increase"])
    return CHOICE.replace("calibrate", f"budget {{ {rows} }}\ncalibrate")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda recipe: make_project(tmp_path, recipe)


def codes(refused):
    return [item.code.number for item in refused.value.diagnostics]


def weight_bits(plan):
    return {
        site.key: tensor.spec.bits
        for site in plan.core.sites
        for tensor in site.tensors
        if tensor.slot == "weight"
    }


def refusal(path, **options):
    with pytest.raises(CompileError) as refused:
        plan_recipe(path, **options)
    return refused


def test_the_choice_is_the_best_of_all_within_the_bytes(project):
    made = plan_recipe(project(within("size <= 2.3kB"))).plan
    choice, core = made.beside.choice, made.core
    assert core.bytes_after <= 2300
    assert made.beside.choice.samples == 32 <= SAMPLES
    assert [group.sites for group in choice.groups] == [(key,) for key in OPEN]
    taken = sum(group.rungs[group.taken].bytes for group in choice.groups)
    room = 2300 - (core.bytes_after - taken)
    totals = [
        sum(rung.loss_increase for rung in rungs)
        for rungs in product(*(group.rungs for group in choice.groups))
        if sum(rung.bytes for rung in rungs) <= room
    ]
    assert choice.loss_increase == pytest.approx(min(totals), rel=1e-9)
    assert choice.bound == choice.loss_increase
    assert len(set(weight_bits(made).values())) > 1, "some layers get more bits than others"


def test_the_bytes_of_a_choice_are_those_of_the_plan(project):
    """Every rung's bytes, from plans in which all layers stand on it."""
    made = plan_recipe(project(within("size <= 2.3kB"))).plan
    for rung, scheme in enumerate(("w2a8", "w4a8", "w8a8")):
        fixed = within("size <= 1MB").replace("choose w2a8, w4a8, w8a8", f"use {scheme}")
        fixed = fixed.replace("budget { size <= 1MB; minimize loss_increase }\n", "")
        sites = {site.key: site for site in plan_recipe(project(fixed)).plan.core.sites}
        for group in made.beside.choice.groups:
            wanted = sum(tensor.bytes_after for tensor in sites[group.sites[0]].tensors)
            assert (group.rungs[rung].scheme, group.rungs[rung].bytes) == (scheme, wanted)


def test_mean_bits_count_what_is_decided_otherwise(project):
    made = plan_recipe(project(within("avg_bits(weight) <= 4.5"))).plan
    sizes = {"conv": 72, "head": 32, **{f"blocks.{i}.conv{j}": 576 for i in (0, 1) for j in (1, 2)}}
    bits = weight_bits(made)
    assert bits["head"] == 8
    mean = sum(bits[key] * size for key, size in sizes.items()) / sum(sizes.values())
    assert mean <= 4.5
    for key, more in product(
        sizes, (4, 8)
    ):  # a layer with more bits would be too many, or no better
        group = next((one for one in made.beside.choice.groups if key in one.sites), None)
        if group is not None and more > bits[key]:
            rung = {2: 0, 4: 1, 8: 2}[more]
            is_worse = group.rungs[rung].loss_increase >= group.rungs[group.taken].loss_increase
            total = sum(bits[k] * s for k, s in sizes.items()) + (more - bits[key]) * sizes[key]
            assert is_worse or total / sum(sizes.values()) > 4.5


def test_a_strict_limit_is_kept_strictly(project):
    least = plan_recipe(project(within("size <= 2.3kB"))).plan.core.bytes_after
    same = plan_recipe(project(within(f"{least / 1000}kB >= size"))).plan.core.bytes_after
    less = plan_recipe(project(within(f"size < {least / 1000}kB"))).plan.core.bytes_after
    assert same == least
    assert less < least


def test_every_limit_of_the_budget_holds(project):
    made = plan_recipe(project(within("size <= 2.3kB and avg_bits(weight) <= 4"))).plan
    bits, elements = weight_bits(made), {"conv": 72, "head": 32}
    sizes = {key: elements.get(key, 576) for key in bits}
    assert sum(bits[key] * sizes[key] for key in bits) / sum(sizes.values()) <= 4
    assert made.core.bytes_after <= 2300


def test_a_limit_that_nothing_reaches_is_refused_before_anything_is_measured(project):
    told = []
    refused = refusal(project(within("size <= 1kB")), progress=lambda *seen: told.append(seen))
    assert codes(refused) == ["QR601"]
    assert "or more, whatever is chosen" in refused.value.diagnostics[0].primary.text
    assert not told


def test_other_limits_and_claims_are_judged_of_the_choice(project):
    recipe = within("size <= 2.3kB")
    held = recipe + 'expect bits("head") == 8 and avg_bits(weight) >= 2.5\n'
    assert plan_recipe(project(held)).diagnostics == ()
    broken = refusal(project(recipe + "expect avg_bits(weight) >= 7\n"))
    assert codes(broken) == ["QR603"]
    limited = refusal(project(within("size <= 2.3kB", "min_bits(weight) >= 8")))
    assert codes(limited) == ["QR601"]


BAND = "expect avg_bits(weight) >= 3 and avg_bits(weight) <= 6\n"


@pytest.mark.parametrize(
    ("claim", "found"),
    [
        (BAND, []),  # neither the fewest bits nor the most
        ('expect exists(scheme(w4a8)) and bits("head") == 8\n', []),
        ("expect max_bits(weight) <= 4\n", ["QR603"]),
    ],
)
def test_without_measuring_only_what_fails_with_every_scheme_is_said(project, claim, found):
    path = project(within("size <= 2.3kB") + claim)
    checked = CliRunner().invoke(main, ["check", str(path), "--model", "--format", "json"])
    assert [one["code"] for one in json.loads(checked.stdout)["diagnostics"]] == found
    assert checked.exit_code == 0, "a mixture may hold it: a warning"
    Path("net.qtest").write_text(f'qtest 1\nrecipe "net.qrecipe"\n{claim}')
    assert [one.code.number for one in run_test(Path("net.qtest")).failures] == found


def test_a_limit_out_of_reach_is_said_without_measuring(project):
    path = project(within("size <= 1kB"))
    checked = CliRunner().invoke(main, ["check", str(path), "--model"])
    assert "QR601" in checked.output
    assert "QR601" in codes(refusal(path, preview=True))


def test_a_ladder_may_take_more_bytes_with_fewer_bits(project):
    """Groups of four make two bits larger than four: the cheapest rung is what counts."""
    grouped = within("size <= 2.3kB").replace(
        "weight with bits=2", "weight with bits=2 per_group(4)"
    )
    grouped = grouped.replace("choose", 'use w8a8 for "conv"\n  choose').replace(
        "for conv or linear", 'for "blocks.**" and conv'
    )
    least = plan_recipe(project(grouped.replace("2.3kB", "1.75kB"))).plan
    assert least.core.bytes_after <= 1750
    assert set(weight_bits(least).values()) <= {4, 8}


class Adds(nn.Module):
    """Two additions that read one value."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(8, 8) for _ in range(3))
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        y = self.a(x)
        return self.out(torch.tanh(y + self.b(x)) * 2 + torch.tanh(y + self.c(x)))


def test_joins_on_one_grid_stand_on_one_rung(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = TIED.replace("{ weight int2 }", "{ weight int2; act int4 }")
    text = text.replace("{ weight int8 }", "{ weight int8; act int8 }")
    text = text.replace("embedding", "add").replace("<= 6", "<= 5")
    Path("net.qrecipe").write_text(text)
    model, x = seeded(Adds()), torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    bound = qcompile.bind(qcompile.load_recipe("net.qrecipe"), model, (x[:2],))
    groups = [group.sites for group in qcompile.plan(bound, x).beside.choice.groups]
    assert ("a", "b", "c") in groups
    assert ("add", "add_1") in groups


def test_a_ladder_may_end_in_float(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = TIED.replace(" or embedding", "").replace("scheme w8 { weight int8 }", FLOAT_TOP)
    text = text.replace("w2, w8", "w2a8, w8, free").replace(
        "avg_bits(weight) <= 6", "size <= 0.75kB"
    )
    Path("net.qrecipe").write_text(f"{text}prepare rotate {{ block = 4 }}\n")
    model, x = seeded(Projections()), torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    bound = qcompile.bind(qcompile.load_recipe("net.qrecipe"), model, (x[:2],))
    made = qcompile.plan(bound, x)
    assert made.core.bytes_after <= 750
    assert [rung.loss_increase for rung in made.beside.choice.groups[0].rungs][-1] == 0.0
    assert qcompile.run(made, "out", bound=bound, data=x)(x).shape == (8, 4)


def test_norms_count_for_mean_bits_as_the_limit_counts_them(project):
    recipe = within("avg_bits(weight) <= 5").replace(
        "for conv or linear", "for conv or linear or norm"
    )
    for most in ("3.2", "4.7", "6.1"):
        made = plan_recipe(project(recipe.replace("<= 5", f"<= {most}")))
        assert made.plan.beside.choice.bound == made.plan.beside.choice.loss_increase


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        x = torch.tanh(self.body(x))
        return self.first(x), self.second(x + 1)


def test_a_layer_that_only_another_output_depends_on_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.qrecipe").write_text(TIED.replace(" or embedding", "").replace("<= 6", "<= 8"))
    model, x = seeded(TwoHeads()), torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    bound = qcompile.bind(qcompile.load_recipe("net.qrecipe"), model, (x[:2],))
    made = make_plan(bound, x)
    (warning,) = [one for one in made.diagnostics if one.code.number == "QR607"]
    assert "`second`" in warning.message
    groups = {group.sites: group for group in made.plan.beside.choice.groups}
    unmeasured = groups["second",]
    assert unmeasured.rungs[unmeasured.taken].scheme == "w8"
    assert {rung.loss_increase for rung in unmeasured.rungs} == {0.0}


def test_a_taken_output_is_said_before_anything_is_measured(project):
    Path("out").mkdir()
    Path("out", "mine.txt").write_text("")
    told = []
    options = RunOptions(work=Path("state"), measuring=lambda *seen: told.append(seen))
    with pytest.raises(CompileError) as refused:
        run_subject(project(within("size <= 2.3kB")), Path("out"), options)
    assert codes(refused) == ["QR901"]
    assert not told


def test_a_later_use_takes_the_freedom_away_and_a_later_set_narrows_it(project):
    recipe = within("size <= 2.5kB").replace(
        'use w8a8 for "head"',
        'use w8a8 for "head" or "conv"\n  set weight.bits = 4 for "blocks.0.*"',
    )
    made = plan_recipe(project(recipe)).plan
    groups = {group.sites[0]: group for group in made.beside.choice.groups}
    assert "conv" not in groups
    rungs = groups["blocks.0.conv1"].rungs
    assert len({(rung.bytes, rung.loss_increase) for rung in rungs}) == 1
    assert weight_bits(made)["blocks.0.conv1"] == 4


def test_bits_that_are_measured_are_not_warned_of_and_those_of_a_set_are(project):
    recipe = within("size <= 2.5kB").replace('use w8a8 for "head"', 'use w8a8 for "head"\n  SET')
    measured = project(recipe.replace("SET", ""))
    assert plan_recipe(measured).diagnostics == ()
    patched = project(recipe.replace("SET", 'set weight.bits = 4 for "conv"'))
    assert [one.code.number for one in plan_recipe(patched).diagnostics] == ["QR511"]


def test_layers_of_one_weight_stand_on_one_rung(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.qrecipe").write_text(TIED)
    model, x = seeded(SharedNet()), torch.arange(48).view(8, 6) % 11
    bound = qcompile.bind(qcompile.load_recipe("net.qrecipe"), model, (x[:2],))
    made = qcompile.plan(bound, x)
    shared = {group.sites: group for group in made.beside.choice.groups}
    assert set(shared) == {("embed", "head"), ("mix", "mix@1")}
    for sites, group in shared.items():
        schemes = {site.scheme for site in made.core.sites if site.key in sites}
        assert schemes == {group.rungs[group.taken].scheme}
    assert [rung.bytes for rung in shared["embed", "head"].rungs] == [22 + 44, 88 + 44]
    again = qcompile.run(made, "out", bound=bound, data=x)
    assert again(x).shape == model(x).shape


class Projections(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        return self.out((self.q(x) * self.k(x)).tanh() + self.v(x))


def test_projections_that_run_as_one_product_stand_on_one_rung(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.qrecipe").write_text(TIED.replace(" or embedding", "").replace("<= 6", "<= 5"))
    model, x = seeded(Projections()), torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    bound = qcompile.bind(qcompile.load_recipe("net.qrecipe"), model, (x[:2],))
    made = qcompile.plan(bound, x)
    assert [group.sites for group in made.beside.choice.groups] == [("q", "k", "v"), ("out",)]
    assert len({bits for key, bits in weight_bits(made).items() if key != "out"}) == 1


def test_a_saved_plan_is_run_as_it_was_chosen_and_nothing_is_measured_again(project, monkeypatch):
    path = project(within("size <= 2.3kB") + "tune hybrid\n")
    planned = plan_recipe(path)
    save_plan(planned.plan, Path("plan.json"))

    def never(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr("qcompile.driver.choose.loss_increases", never)
    done = run_subject(Path("plan.json"), Path("out"), QUIET)
    assert done.plan.core_sha256 == planned.plan.core_sha256
    assert done.plan.beside.choice == planned.plan.beside.choice
    assert not verify(Path("out"))
    total = sum(tensor.nbytes for tensor in load_file("out/model.safetensors").values())
    assert total == planned.plan.core.bytes_after <= 2300


def test_a_saved_plan_is_stale_when_its_budget_has_changed(project):
    path = project(within("size <= 2.3kB"))
    save_plan(plan_recipe(path).plan, Path("plan.json"))
    path.write_text(path.read_text().replace("2.3kB", "2.4kB"))
    with pytest.raises(CompileError) as refused:
        run_subject(Path("plan.json"), Path("out"), QUIET)
    assert codes(refused) == ["QR708"]


def test_the_python_functions_choose_too(project):
    recipe = qcompile.load_recipe(project(within("size <= 2.3kB")))
    bound = qcompile.bind(recipe)
    made = qcompile.plan(bound)
    assert made.beside.choice is not None
    qcompile.run(made, "out", bound=bound)
    assert not verify(Path("out"))


def test_the_same_recipe_is_planned_the_same_again(project):
    path = project(within("size <= 2.3kB"))
    assert plan_recipe(path).plan == plan_recipe(path).plan


def test_a_preview_shows_the_fewest_bits_and_says_so(project):
    made = plan_recipe(project(within("size <= 2.3kB")), preview=True)
    assert [item.code.number for item in made.diagnostics] == ["QR607"]
    assert "5 layers of `choose` have the fewest bits" in made.diagnostics[0].message
    assert {bits for key, bits in weight_bits(made.plan).items() if key != "head"} == {2}
    assert made.plan.beside.choice is None


def test_without_data_there_is_nothing_to_measure_with(project):
    recipe = within("size <= 2.3kB").replace("act uint8 asymmetric per_tensor\n", "")
    data = next(line for line in recipe.splitlines() if line.startswith("calibrate"))
    assert codes(refusal(project(recipe.replace(data, "")))) == ["QR211"]


def test_every_candidate_must_be_legal(project):
    recipe = within("size <= 2.3kB").replace(
        "weight with bits=8", "weight with bits=8 per_group(7)"
    )
    assert codes(refusal(project(recipe))) == ["QR501"]


def test_a_run_can_be_stopped_while_it_measures(project):
    path = project(within("size <= 2.3kB"))
    with pytest.raises(StopRequestedError):
        run_subject(path, Path("out"), RunOptions(work=Path("state"), should_stop=lambda: True))
    assert not Path("out").exists()
    assert not Path("state").exists()


def test_plan_and_trace_show_what_was_chosen_from(project):
    path = project(within("size <= 2.3kB"))
    made = plan_recipe(path).plan
    assert (
        f"chosen for 5 layers: loss increase {made.beside.choice.loss_increase:.3g}, "
        "the least within the budget (measured one by one on 32 samples)"
    ) in plan_text(made)
    result = CliRunner().invoke(main, ["plan", str(path), "--trace", "conv"])
    lines = result.stdout.splitlines()
    at = lines.index("  what the budget chooses from: * taken")
    rungs = lines[at + 1 : at + 4]
    assert [line[4:8] for line in rungs] == ["w2a8", "w4a8", "w8a8"]
    assert sum(line.startswith("  * ") for line in rungs) == 1
    trace = json.loads(
        CliRunner().invoke(main, ["plan", str(path), "--trace", "conv", "--json"]).stdout
    )["trace"]
    assert [rung["scheme"] for rung in trace["choice"]["rungs"]] == ["w2a8", "w4a8", "w8a8"]


@pytest.fixture
def asked(monkeypatch):
    """Layers and candidates that are measured, as they are asked for."""
    found = {}

    def spied(graph, units, candidates, batches, **rest):
        found.update({one.plans[0].key: len(one.plans) for one in candidates.values()})
        return loss_increases(graph, units, candidates, batches, **rest)

    monkeypatch.setattr("qcompile.driver.choose.loss_increases", spied)
    return found


def saved(path):
    made = plan_recipe(path).plan
    save_plan(made, Path("before.json"))
    return made, Saved(made, "before.json")


def test_another_budget_measures_nothing_again(project, asked):
    path = project(within("size <= 2.3kB") + "tune hybrid\n")
    before, measured = saved(path)
    asked.clear()
    path.write_text("# a comment moves every line\n" + path.read_text().replace("2.3kB", "1.7kB"))
    made = plan_recipe(path, measured=measured)
    assert not asked
    assert made.plan == plan_recipe(path).plan
    assert made.plan.core.bytes_after <= 1700 < before.core.bytes_after


def test_only_what_is_new_is_measured(project, asked):
    path = project(within("size <= 2.3kB"))
    _, measured = saved(path)
    asked.clear()
    scheme = "scheme w6a8 extends w4a8 {\n  weight with bits=6\n}\npolicy"
    text = path.read_text().replace("policy", scheme, 1)
    path.write_text(text.replace("w4a8, w8a8 for", "w4a8, w6a8, w8a8 for"))
    made = plan_recipe(path, measured=measured).plan
    assert asked == dict.fromkeys(OPEN, 1)
    assert made == plan_recipe(path).plan


def test_what_a_layer_is_tuned_by_is_measured_anew(project, asked):
    path = project(within("size <= 2.3kB"))
    _, measured = saved(path)
    asked.clear()
    path.write_text(path.read_text() + 'tune hybrid for "conv" { }\n')
    plan_recipe(path, measured=measured)
    assert asked == {"conv": 3}


@pytest.mark.parametrize(
    ("change", "part"),
    [(("samples = 32", "samples = 24"), "data"), (("factories:net", "factories:wide"), "graph")],
)
def test_what_was_measured_on_something_else_is_refused(project, asked, change, part):
    path = project(within("size <= 2.3kB"))
    _, measured = saved(path)
    asked.clear()
    path.write_text(path.read_text().replace(*change).replace("2.3kB", "9kB"))
    refused = refusal(path, measured=measured)
    assert codes(refused) == ["QR708"]
    assert part in refused.value.diagnostics[0].message
    assert not asked


def test_a_plan_that_chose_nothing_has_measured_nothing(project):
    _, measured = saved(project(RECIPE))
    refused = refusal(project(within("size <= 2.3kB")), measured=measured)
    assert codes(refused) == ["QR708"]
    assert "measured nothing" in refused.value.diagnostics[0].message


def test_what_was_measured_is_not_ignored_where_nothing_is_chosen(project):
    _, measured = saved(project(within("size <= 2.3kB")))
    assert codes(refusal(project(RECIPE), measured=measured)) == ["QR604"]
    preview = refusal(project(within("size <= 2.3kB")), measured=measured, preview=True)
    assert codes(preview) == ["QR604"]


def test_the_command_takes_what_a_saved_plan_has_measured(project, asked):
    path = project(within("size <= 2.3kB"))
    saved(path)
    asked.clear()
    done = CliRunner().invoke(main, ["plan", str(path), "--measured", "before.json"])
    assert done.exit_code == 0, done.output
    assert not asked
    gone = CliRunner().invoke(main, ["plan", str(path), "--measured", "gone.json"])
    assert "QR709" in gone.output


@pytest.mark.parametrize("weight", ["with bits=8", "int4 + int4 per_channel"])
def test_what_learns_is_measured_without_learning(project, weight):
    """`optq` stands in, and nearest rounding for sums of formats, which it does not serve."""
    recipe = within("size <= 3kB").replace("weight with bits=8", f"weight {weight}")
    learned = plan_recipe(project(recipe + "tune adaround { steps = 1; batch = 8 }\n")).plan
    stand_in = "rtn" if "+" in weight else "optq"
    other = plan_recipe(project(recipe + f"tune {stand_in}\n")).plan
    assert learned.beside.choice == other.beside.choice


@pytest.mark.parametrize(("samples", "used"), [(48, 48), (192, 80)])
def test_whole_batches_are_measured_with_until_there_are_enough(project, samples, used):
    asked = f'data = "factories:many"; samples = {samples}; batch = 20'
    text = within("size <= 2.3kB")
    path = project(text.replace('data = "factories:data"; samples = 32; batch = 8', asked))
    with Path("factories.py").open("a") as file:
        file.write("\n\ndef many():\n    return torch.cat([data()] * 4)\n")
    assert plan_recipe(path).plan.beside.choice.samples == used


def test_a_diff_tells_another_budget(project):
    path = project(within("size <= 2.3kB"))
    Path("other.qrecipe").write_text(path.read_text().replace("2.3kB", "2.2kB"))
    (change,) = diff(str(path), "other.qrecipe").settings
    rule = "choose w2a8, w4a8, w8a8 for conv or linear"
    assert (change.name, change.breaking) == ("budget", False)
    assert (change.before, change.after) == (["size <= 2.3kB", rule], ["size <= 2.2kB", rule])
    assert not diff(str(path), str(path)).settings


def test_progress_names_each_layer_once(project):
    told = []
    plan_recipe(project(within("size <= 2.3kB")), progress=lambda *seen: told.append(seen))
    assert [number for _, number, _ in told] == [1, 2, 3, 4, 5]
    assert {total for *_, total in told} == {5}
    assert told[0][0] == "conv"

"""`minimize size`: the fewest bytes of all choices whose measured losses stay below a limit."""

from itertools import product
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import qcompile
from qcompile.cli.main import main
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.diff import diff
from qcompile.driver.load import verify
from qcompile.driver.measured import Saved
from qcompile.driver.plan import plan_recipe
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from qcompile.driver.saved_plan import save_plan
from qcompile.policy.choice import ChoicePlan
from qcompile.report.choice_view import choice_line
from tests.driver.project import make_project
from tests.driver.test_choose import CHOICE, TIED, TwoHeads, codes, refusal
from tests.tiny_models import seeded


def smallest(*limits):
    rows = "; ".join([*limits, "minimize size"])
    return CHOICE.replace("calibrate", f"budget {{ {rows} }}\ncalibrate")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda recipe: make_project(tmp_path, recipe)


@pytest.fixture
def measured(project):
    """A plan in which everything may be lost; its losses tell what a limit will do."""
    return plan_recipe(project(smallest("loss_increase <= 100"))).plan


def every_choice(choice):
    """Bytes and loss of each."""
    for rungs in product(*(group.rungs for group in choice.groups)):
        yield sum(rung.bytes for rung in rungs), sum(rung.loss_increase for rung in rungs)


def between(choice, share):
    """A limit that some choices keep."""
    losses = sorted(loss for _, loss in every_choice(choice))
    return losses[int(share * (len(losses) - 1))]


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_no_choice_within_the_loss_has_fewer_bytes_and_none_of_these_a_smaller_loss(
    project, measured, share
):
    limit = between(measured.beside.choice, share)
    made = plan_recipe(project(smallest(f"loss_increase <= {limit!r}"))).plan
    choice = made.beside.choice
    allowed = [one for one in every_choice(choice) if one[1] <= limit]
    assert (choice.bytes_taken, choice.loss_increase) == (
        min(allowed)[0],
        pytest.approx(min(allowed)[1], rel=1e-9),
    )
    assert choice.objective == "size"
    assert choice.bound == choice.bytes_taken
    assert choice.is_proved
    assert made.core.bytes_after < measured.core.bytes_before


def test_whatever_may_be_lost_the_fewest_bits_are_the_smallest(measured):
    choice = measured.beside.choice
    assert choice.bytes_taken == min(size for size, _ in every_choice(choice))
    assert choice.loss_increase < 100


def test_other_limits_hold_too(project, measured):
    limit = between(measured.beside.choice, 0.4)
    recipe = smallest(f"loss_increase <= {limit!r}", "size <= MOST")
    free = plan_recipe(project(recipe.replace("MOST", "1MB"))).plan
    least = free.core.bytes_after
    same = plan_recipe(project(recipe.replace("MOST", f"{least / 1000}kB"))).plan
    assert same.core.bytes_after == least
    (problem,) = refusal(
        project(recipe.replace("MOST", f"{(least - 1) / 1000}kB"))
    ).value.diagnostics
    assert problem.code.number == "QR601"
    assert "together" in problem.message
    bits = smallest(f"loss_increase <= {limit!r}", "avg_bits(weight) <= 2.1")
    assert codes(refusal(project(bits))) == ["QR601"]


def test_a_strict_limit_is_kept_strictly(project, measured):
    taken = measured.beside.choice.loss_increase
    same = plan_recipe(project(smallest(f"{taken * (1 + 1e-7)!r} >= loss_increase"))).plan
    less = plan_recipe(project(smallest(f"loss_increase < {taken!r}"))).plan
    assert same.core.bytes_after == measured.core.bytes_after
    assert less.beside.choice.loss_increase < taken
    assert less.core.bytes_after > measured.core.bytes_after


def test_with_both_limits_the_least_loss_is_taken(project, measured):
    """`minimize loss_increase` with a limit on it that is kept anyway changes nothing."""
    rows = "size <= 2.3kB; minimize loss_increase"
    plain = CHOICE.replace("calibrate", f"budget {{ {rows} }}\ncalibrate")
    least = plan_recipe(project(plain)).plan.beside.choice
    assert least.objective == "loss_increase"
    limited = plain.replace("budget {", f"budget {{ loss_increase <= {2 * least.loss_increase!r};")
    assert plan_recipe(project(limited)).plan.beside.choice == least
    beyond = plain.replace("budget {", f"budget {{ loss_increase <= {least.loss_increase / 2!r};")
    (problem,) = refusal(project(beyond)).value.diagnostics
    assert problem.code.number == "QR601"
    assert "together" in problem.message


def test_a_loss_that_no_choice_keeps_is_named(project, measured):
    least = min(loss for _, loss in every_choice(measured.beside.choice))
    (problem,) = refusal(project(smallest(f"loss_increase <= {least / 2!r}"))).value.diagnostics
    assert problem.code.number == "QR601"
    assert problem.primary.text == f"`loss_increase` is {least:.3g} or more, whatever is chosen"


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_no_loss_at_all_is_refused_where_every_scheme_costs_something(project, limit):
    assert codes(refusal(project(smallest(f"loss_increase <= {limit}")))) == ["QR601"]


def test_without_measuring_nothing_is_said_of_a_loss(project):
    path = project(smallest("loss_increase <= 1e-12"))
    checked = CliRunner().invoke(main, ["check", str(path), "--model"])
    assert checked.exit_code == 0, checked.output
    assert [one.code.number for one in plan_recipe(path, preview=True).diagnostics] == ["QR607"]


def test_another_budget_needs_no_other_measurement(project, measured, monkeypatch):
    def never(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr("qcompile.driver.choose.loss_increases", never)
    limit = between(measured.beside.choice, 0.4)
    path = project(smallest(f"loss_increase <= {limit!r}"))
    made = plan_recipe(path, measured=Saved(measured, "plan.json")).plan
    assert made.beside.choice.loss_increase <= limit < measured.beside.choice.loss_increase


def test_a_layer_that_is_not_measured_keeps_the_most_bits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = TIED.replace(" or embedding", "")
    text = text.replace("avg_bits(weight) <= 6", "loss_increase <= 9; minimize size")
    Path("net.qrecipe").write_text(text)
    model, x = seeded(TwoHeads()), torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    bound = qcompile.bind(qcompile.load_recipe("net.qrecipe"), model, (x[:2],))
    choice = qcompile.plan(bound, x).beside.choice
    taken = {group.sites: group.rungs[group.taken].scheme for group in choice.groups}
    assert taken == {("body",): "w2", ("first",): "w2", ("second",): "w8"}
    assert choice.is_proved


class Twins(nn.Module):
    """Two layers of one shape, of which the second counts three times as much."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        return self.a(torch.sin(x)) + 3 * self.b(torch.cos(x))


def test_of_choices_with_the_same_bytes_the_best_is_taken(tmp_path, monkeypatch):
    """Either of the two could have eight bits within the limit: the one that counts has them."""
    monkeypatch.chdir(tmp_path)
    text = TIED.replace(" or embedding", "")
    text = text.replace("avg_bits(weight) <= 6", "LIMIT; minimize size")
    model, x = seeded(Twins()), torch.randn(8, 8, generator=torch.Generator().manual_seed(1))

    def chosen(limit):
        Path("net.qrecipe").write_text(text.replace("LIMIT", limit))
        bound = qcompile.bind(qcompile.load_recipe("net.qrecipe"), model, (x[:2],))
        return qcompile.plan(bound, x).beside.choice

    rungs = {group.sites[0]: group.rungs for group in chosen("loss_increase <= 1e6").groups}
    worse = rungs["a"][1].loss_increase + rungs["b"][0].loss_increase
    better = rungs["a"][0].loss_increase + rungs["b"][1].loss_increase
    both = rungs["a"][0].loss_increase + rungs["b"][0].loss_increase
    assert better < worse < both
    choice = chosen(f"loss_increase <= {worse * (1 + 1e-6)!r}")  # either of the two would do
    assert [group.rungs[group.taken].scheme for group in choice.groups] == ["w2", "w8"]


def test_the_plan_says_what_was_made_small(project, measured):
    limit = between(measured.beside.choice, 0.4)
    path = project(smallest(f"loss_increase <= {limit!r}"))
    shown = CliRunner().invoke(main, ["plan", str(path)]).output
    choice = plan_recipe(path).plan.beside.choice
    line = f"{choice.bytes_taken / 1000:.2f} kB, the fewest within the budget; loss increase"
    assert line in " ".join(shown.split())
    open_yet = ChoicePlan(**{**dict(choice), "bound": choice.bytes_taken - 1.0})
    assert "at least" in choice_line(open_yet)


def test_two_recipes_that_go_by_something_else_differ(project):
    bytes_ = project(smallest("loss_increase <= 1", "size <= 2.3kB"))
    Path("other.qrecipe").write_text(
        bytes_.read_text().replace("minimize size", "minimize loss_increase")
    )
    assert "minimize size" in str(diff(str(bytes_), "other.qrecipe"))


def test_it_is_run_and_verified(project, measured):
    limit = between(measured.beside.choice, 0.4)
    planned = plan_recipe(project(smallest(f"loss_increase <= {limit!r}"))).plan
    save_plan(planned, Path("plan.json"))
    done = run_subject(Path("plan.json"), Path("out"), RunOptions(work=Path("state")))
    assert done.plan.beside.choice == planned.beside.choice
    assert not verify(Path("out"))


def test_a_plan_saved_before_there_was_a_choice_of_objectives_is_read(measured):
    document = measured.beside.choice.model_dump(mode="json")
    del document["objective"]
    assert ChoicePlan.model_validate(document).objective == "loss_increase"


def test_the_fewest_bytes_need_a_limit_on_the_loss(project):
    with pytest.raises(CompileError) as refused:
        qcompile.load_recipe(project(smallest("size <= 2.3kB")))
    assert codes(refused) == ["QR604"]

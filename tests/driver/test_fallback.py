"""`require ... else`: what is carried out where a requirement does not hold, and what is told."""

import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

import qcompile
from qcompile.cli.main import main
from qcompile.cli.plan_view import plan_text
from qcompile.data.sampling import select_samples
from qcompile.data.weights import weights_sha256
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.load import verify
from qcompile.driver.plan import fall_back, plan_recipe
from qcompile.driver.progress import StopRequestedError
from qcompile.driver.run import execute, run_subject
from qcompile.driver.run_forecast import expected
from qcompile.driver.run_options import RunOptions
from qcompile.driver.saved_plan import save_plan
from qcompile.policy.run_forecast import RunForecast, UnitForecast
from tests.driver.project import RECIPE, make_project

QUIET = RunOptions(work=Path("state"))
SCHEMES = """scheme w8a8 {
  weight int8
  act uint8
}
scheme w6a8 {
  weight int6
  act uint8
}
policy"""
BASE = RECIPE.replace("policy", SCHEMES, 1).replace(
    "  # qcompile: ignore[QR511] the first layer as all others", ""
)
MISSED = "require sqnr >= 35dB"
"""31.4 dB with four bits, 42 with six, 52.2 with eight."""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *lines, base=BASE: make_project(
        tmp_path, base + "".join(f"{line}\n" for line in lines)
    )


def report(folder="out"):
    return json.loads((Path(folder) / "report.json").read_text())


def model_bytes(folder):
    return (Path(folder) / "model.safetensors").read_bytes()


def weight_bits(plan):
    return {
        site.key: tensor.spec.bits
        for site in plan.core.sites
        for tensor in site.tensors
        if tensor.slot == "weight"
    }


def numbers(diagnostics):
    return [item.code.number for item in diagnostics]


def refused(call):
    with pytest.raises(CompileError) as caught:
        call()
    return [item for item in caught.value.diagnostics if item.is_error]


def test_what_holds_is_published_as_if_there_were_no_else(project):
    run_subject(project("require sqnr >= 20dB"), Path("without"), QUIET)
    done = run_subject(project("require sqnr >= 20dB else w8a8"), Path("out"), QUIET)
    assert model_bytes("out") == model_bytes("without")
    assert done.plan.core.fallback is None
    assert "attempts" not in report()
    assert "QR610" not in numbers(done.diagnostics)


def test_what_does_not_hold_is_what_a_last_use_would_have_made(project):
    last = BASE.replace('  skip "head"', '  skip "head"\n  use w8a8 for conv')
    run_subject(project(base=last), Path("wanted"), QUIET)
    done = run_subject(project(f"{MISSED} else w8a8"), Path("out"), QUIET)
    assert model_bytes("out") == model_bytes("wanted")
    assert verify("out") == []
    assert done.plan.core.fallback == "w8a8"
    assert set(weight_bits(done.plan).values()) == {8}
    assert done.plan.core.site("head").scheme is None  # what is skipped stays float
    assert done.plan.core.site("conv").decided_by.text == f"{MISSED} else w8a8"
    assert not list(Path("state").iterdir())


def test_why_is_told_by_warning_report_and_page(project):
    project(f'{MISSED} else w8a8, "agreed in May"')
    result = CliRunner().invoke(main, ["run", "net.qrecipe", "-o", "out"])
    assert result.exit_code == 0
    assert "`sqnr >= 35dB` did not hold; `w8a8` is taken (`sqnr` is 31." in result.output
    assert "warning[QR610]" in result.output
    assert "reason given: agreed in May" in result.output
    assert result.output.count("] blocks.0 ") == 2  # the units of both runs
    found = report()
    assert not found["failed"]
    assert found["requirements"][0]["holds"]
    assert found["figures"]["sqnr"] > 50
    (given_up,) = found["attempts"]
    assert given_up["fallback"] is None
    assert not given_up["requirements"][0]["holds"]
    assert 31 < given_up["figures"]["sqnr"] < 32
    assert (
        given_up["bytes_after"]
        < plan_recipe(Path("net.qrecipe")).plan.beside.fallbacks[0].bytes_after
    )
    assert any(text.startswith("QR610") for text in found["warnings"])
    page = CliRunner().invoke(main, ["report", "out"]).output
    assert "given up: the policy itself, 1.68 kB" in page
    assert "FAILED: require sqnr >= 35dB" in page
    assert "holds: require sqnr >= 35dB" in page


def test_quiet_tells_it_once(project):
    project(f"{MISSED} else w8a8")
    result = CliRunner().invoke(main, ["run", "net.qrecipe", "-o", "out", "-q"])
    assert result.output.count("did not hold") == 1


def test_two_requirements_are_a_ladder_and_each_scheme_is_tried_once(project):
    lines = ("require sqnr >= 45dB else w6a8", "require sqnr >= 46dB else w8a8")
    done = run_subject(project(*lines), Path("out"), QUIET)
    assert done.plan.core.fallback == "w8a8"
    assert [one["fallback"] for one in report()["attempts"]] == [None, "w6a8"]
    assert numbers(done.diagnostics).count("QR610") == 2
    assert all(one["holds"] for one in report()["requirements"])


def test_a_rung_that_holds_ends_the_ladder(project):
    lines = (f"{MISSED} else w6a8", "require sqnr >= 36dB else w8a8")
    done = run_subject(project(*lines), Path("out"), QUIET)
    assert done.plan.core.fallback == "w6a8"
    assert len(report()["attempts"]) == 1


def test_where_nothing_holds_the_last_is_written_and_fails(project):
    lines = ("require sqnr >= 90dB else w8a8", "require sqnr >= 91dB else w8a8")
    path = project(*lines)
    found = refused(lambda: run_subject(path, Path("out"), QUIET))
    assert numbers(found) == ["QR606", "QR606"]
    assert report()["failed"]
    assert len(report()["attempts"]) == 1  # one scheme, tried once
    assert verify("out") == []
    result = CliRunner().invoke(main, ["run", str(path), "-o", "out", "-q", "--replace"])
    assert result.exit_code == 4


def test_final_lines_stay_and_a_set_is_forgotten(project):
    own = (
        "use w4a8 for conv or linear\n"
        '  final use w6a8 for "blocks.0.conv1"\n'
        '  set weight.bits = 3 for "blocks.1.conv2"'
    )
    path = project(f"{MISSED} else w8a8", base=BASE.replace("use w4a8 for conv or linear", own))
    done = run_subject(path, Path("out"), QUIET)
    bits = weight_bits(done.plan)
    assert bits.pop("blocks.0.conv1") == 6
    assert set(bits.values()) == {8}


def with_final(line):
    return BASE.replace("use w4a8 for conv or linear", f"use w4a8 for conv or linear\n  {line}")


def test_a_field_that_a_final_line_set_stays_as_well(project):
    own = with_final('final set weight.bits = 5 for "blocks.0.conv1"')
    done = run_subject(project(f"{MISSED} else w8a8", base=own), Path("out"), QUIET)
    bits = weight_bits(done.plan)
    assert bits.pop("blocks.0.conv1") == 5
    assert set(bits.values()) == {8}


def test_a_final_field_that_the_scheme_cannot_have_is_a_conflict_before_the_run(project):
    own = with_final("final set act.bits = 6 for conv").replace(
        "weight int8\n  act uint8", "weight int8\n  act float"
    )
    (problem,) = refused(lambda: plan_recipe(project(f"{MISSED} else w8a8", base=own)))
    assert problem.code.number == "QR304"
    assert "in what `else w8a8` falls back to" in problem.notes
    assert problem.primary.span.text == f"{MISSED} else w8a8"
    assert "a scheme after `else`" in problem.help


def test_the_plan_says_what_it_would_come_to(project):
    made = plan_recipe(project(f"{MISSED} else w8a8", "require top1 >= 0%"), forecast=True).plan
    (other,) = made.beside.fallbacks
    assert (other.scheme, other.layers) == ("w8a8", 5)
    assert other.bytes_after > made.core.bytes_after
    assert other.seconds > made.beside.forecast.seconds
    shown = plan_text(made)
    assert f"after the run: {MISSED} else w8a8 (else: 5 layers in another way, 2.87 kB" in shown
    assert "after the run: require top1 >= 0%\n" in shown


def test_a_preview_says_it_too(project):
    made = plan_recipe(project(f"{MISSED} else w8a8"), preview=True).plan
    assert made.beside.fallbacks[0].layers == 5


def test_the_fallback_is_held_to_budget_and_expectations_before_the_run(project):
    lines = ("budget { size <= 2kB }", "expect max_bits(weight) <= 4")
    found = refused(lambda: plan_recipe(project(f"{MISSED} else w8a8", *lines)))
    assert sorted(numbers(found)) == ["QR601", "QR603"]
    assert all("in what `else w8a8` falls back to" in one.notes for one in found)


def test_limits_on_the_run_count_all_that_may_be_run(project):
    alone = plan_recipe(project(), forecast=True).plan.beside.forecast
    between = alone.disk_bytes + alone.kept_bytes / 2
    limit = f"budget {{ disk <= {between / 1000:.3f}kB }}"
    plan_recipe(project(limit))
    (problem,) = refused(lambda: plan_recipe(project(limit, f"{MISSED} else w8a8")))
    assert problem.code.number == "QR707"


def test_forecasts_of_runs_that_follow_one_another():
    unit = UnitForecast(unit="a", seconds=1.0, peak_bytes=5, state_bytes=1)
    first = RunForecast(samples=1, batch=1, units=(unit,), seconds=2.0, peak_bytes=9, disk_bytes=3)
    first = first.model_copy(update={"kept_bytes": 2})
    second = first.model_copy(update={"seconds": 5.0, "peak_bytes": 7, "disk_bytes": 4})
    both = second.behind(first, graph_bytes=1)
    assert (both.seconds, both.peak_bytes, both.disk_bytes, both.kept_bytes) == (7.0, 9, 6, 4)
    assert second.behind(first, graph_bytes=6).peak_bytes == 13
    assert second.behind(first.model_copy(update={"seconds": None}), 0).seconds is None


def test_an_else_that_changes_nothing_is_said(project):
    warned = plan_recipe(project(f"{MISSED} else w4a8")).diagnostics
    (problem,) = [one for one in warned if one.code.number == "QR303"]
    assert problem.message.startswith("`else w4a8` changes nothing")


def test_warnings_of_the_policy_are_not_said_again_of_its_fallback(project):
    before = plan_recipe(project("require sqnr >= 20dB")).diagnostics
    after = plan_recipe(project("require sqnr >= 20dB else w8a8")).diagnostics
    assert numbers(before) == ["QR206", "QR206", "QR511"]  # of both schemes that nothing names
    assert numbers(after) == ["QR206", "QR511"]


def test_what_a_budget_chose_falls_back_too(project):
    own = BASE.replace("use w4a8 for conv or linear", "choose w4a8, w6a8 for conv").replace(
        "calibrate", "budget { size <= 4kB; minimize loss_increase }\ncalibrate"
    )
    path = project("require sqnr >= 90dB else w8a8", base=own)
    assert numbers(refused(lambda: run_subject(path, Path("out"), QUIET))) == ["QR606"]
    plan = json.loads(Path("out/plan.json").read_text())
    assert plan["core"]["fallback"] == "w8a8"
    assert {site["scheme"] for site in plan["core"]["sites"]} == {"w8a8", None}


def test_a_saved_plan_of_a_fallback_makes_the_same_artifact(project):
    path = project(f"{MISSED} else w8a8")
    done = run_subject(path, Path("out"), QUIET)
    again = run_subject(Path("out/plan.json"), Path("again"), QUIET)
    assert again.identity == done.identity
    assert "attempts" not in report("again")


def test_a_plan_that_is_a_fallback_knows_of_no_further_one(project):
    lines = ("require sqnr >= 90dB else w6a8", "require sqnr >= 91dB else w8a8")
    refused(lambda: run_subject(project(*lines), Path("out"), QUIET))
    assert [one["fallback"] for one in report()["attempts"]] == [None, "w6a8"]
    found = refused(lambda: run_subject(Path("out/plan.json"), Path("again"), QUIET))
    assert numbers(found) == ["QR606", "QR606"]
    assert model_bytes("again") == model_bytes("out")
    assert "fallen back to w8a8" in CliRunner().invoke(main, ["show", "out"]).output


def test_what_was_judged_when_it_was_planned_is_not_judged_again(project, monkeypatch):
    """A process that has run once takes more memory than its forecast had begun with."""
    judged = []

    def looked_at(*arguments, **named):
        judged.append(arguments)
        return expected(*arguments, **named)

    monkeypatch.setattr("qcompile.driver.plan.expected", looked_at)
    planned = plan_recipe(project(f"{MISSED} else w8a8", "budget { ram <= 100GB }"))
    assert len(judged) == 2
    assert execute(planned, Path("out"), QUIET).plan.core.fallback == "w8a8"
    assert len(judged) == 2


def test_weights_and_samples_are_read_once_for_all_that_may_be_run(project, monkeypatch):
    reads = Counter()

    def counted(name, function):
        def call(*arguments, **named):
            reads[name] += 1
            return function(*arguments, **named)

        return call

    places = {
        "qcompile.driver.plan.weights_sha256": weights_sha256,
        "qcompile.driver.calibration.select_samples": select_samples,
    }
    for place, function in places.items():
        monkeypatch.setattr(place, counted(place, function))
    lines = ("require sqnr >= 45dB else w6a8", "require sqnr >= 46dB else w8a8")
    done = run_subject(project(*lines), Path("out"), QUIET)
    assert done.plan.core.fallback == "w8a8"
    assert reads == Counter(dict.fromkeys(places, 1))


def test_batches_of_another_size_are_drawn_anew(project):
    """A step of what learns takes one batch, and nothing learns where the scheme is not there."""
    tune = "tune brecq for scheme(w4a8) { steps = 2; batch = 4; samples = 8 }"
    made = plan_recipe(project(f"{MISSED} else w8a8", tune))
    assert made.plan.core.data.batch == 4
    assert fall_back(made, "w8a8").plan.core.data.batch == 8


def test_problems_of_all_fallbacks_are_said_at_once(project):
    lines = (f"{MISSED} else w6a8", f"{MISSED} else w8a8", "expect max_bits(weight) <= 4")
    found = refused(lambda: plan_recipe(project(*lines)))
    notes = [note for one in found for note in one.notes if "falls back" in note]
    assert notes == ["in what `else w6a8` falls back to"]  # one place, one diagnostic
    lines = (*lines, "expect bits(conv) == 8 or bits(conv) == 4")
    assert len(refused(lambda: plan_recipe(project(*lines)))) == 2


def test_what_is_for_the_policys_own_scheme_need_not_be_there(project):
    lines = ("tune optq for scheme(w4a8) {}", "prepare smoothquant for conv", "tune rtn")
    own = BASE.replace("weight int8\n  act uint8", "weight int8\n  act float")
    done = run_subject(
        project("require sqnr >= 50dB else w8a8", *lines, base=own), Path("out"), QUIET
    )
    assert done.plan.core.fallback == "w8a8"
    assert not done.plan.core.tunes
    assert "smoothquant" not in {one.name for one in done.plan.core.transforms}


def test_a_fallback_without_anything_to_rotate_is_none_the_worse(project):
    own = BASE.replace("weight int8\n  act uint8", "weight float\n  act uint8").replace(
        'skip "head"', 'use w4a8 for "head"'
    )
    lines = ("prepare rotate", "require sqnr >= 90dB else w8a8")
    made = plan_recipe(project(*lines, base=own)).plan
    assert [one.name for one in made.core.transforms] == ["fold_bn", "rotate"]
    assert made.beside.fallbacks


def test_a_later_attempt_that_breaks_off_says_why_there_was_one(project, monkeypatch):
    path = project(f"{MISSED} else w8a8")
    planned = plan_recipe(path)
    state = Path("state") / planned.plan.core_sha256[:16] / "else"
    state.parent.mkdir(parents=True)
    state.write_text("in the way")
    found = refused(lambda: run_subject(path, Path("out"), QUIET))
    assert numbers(found) == ["QR905"]
    with pytest.raises(CompileError) as caught:
        run_subject(path, Path("out"), QUIET)
    assert numbers(caught.value.diagnostics) == ["QR905", "QR610"]


def test_warnings_are_those_of_what_is_published(project):
    done = run_subject(project(f"{MISSED} else w8a8"), Path("out"), QUIET)
    assert numbers(done.diagnostics) == ["QR206", "QR610"]  # none of four bits in the first layer
    held = run_subject(project("require sqnr >= 20dB else w8a8"), Path("held"), QUIET)
    assert "QR511" in numbers(held.diagnostics)


def test_what_the_text_alone_shows_is_said_of_a_fallback_too(project):
    own = BASE.replace("; seed = 3", "")
    done = run_subject(project(f"{MISSED} else w8a8", base=own), Path("out"), QUIET)
    assert numbers(done.diagnostics) == ["QR206", "QR704", "QR610"]
    assert [text[:5] for text in report()["warnings"]] == ["QR206", "QR704", "QR610"]


def test_a_test_of_the_recipe_is_about_its_policy(project):
    project(f"{MISSED} else w8a8")
    test = 'qtest 1\nrecipe "net.qrecipe"\nexpect bits("conv") == 4\n'
    Path("net.qtest").write_text(test)
    assert CliRunner().invoke(main, ["test", "net.qtest"]).exit_code == 0
    Path("net.qtest").write_text(test.replace("4", "8"))
    assert CliRunner().invoke(main, ["test", "net.qtest"]).exit_code == 1


def test_suppressions_hold_for_fallbacks_and_tests_of_recipes(project):
    line = "require sqnr >= 50dB else w6a8  # qcompile: ignore[QR511] agreed"
    path = project(line)
    Path("net.qtest").write_text('qtest 1\nrecipe "net.qrecipe"\ndiagnostics QR206 QR511\n')
    assert numbers(plan_recipe(path).diagnostics) == ["QR206", "QR511"]  # the policy's own
    assert CliRunner().invoke(main, ["test", "net.qtest"]).exit_code == 0
    refused(lambda: run_subject(path, Path("out"), QUIET))
    again = CliRunner().invoke(main, ["run", "out/plan.json", "-o", "again", "-q"])
    assert "QR190" not in again.output


def test_formats_are_looked_at_in_fallbacks_too(project):
    odd = BASE.replace("scheme w6a8", "scheme odd {\n  weight nf4\n}\nscheme w6a8")
    path = project(f"{MISSED} else odd", base=odd)
    result = CliRunner().invoke(main, ["plan", str(path), "--for", "onnx"])
    assert result.exit_code == 1
    assert "QR550" in result.output
    assert "in what `else odd` falls back to" in result.output


def test_what_was_measured_for_a_choice_is_not_lost(project):
    own = BASE.replace("use w4a8 for conv or linear", "choose w4a8, w6a8 for conv").replace(
        "calibrate", "budget { size <= 4kB; minimize loss_increase }\ncalibrate"
    )
    path = project("require sqnr >= 50dB else w8a8", base=own)
    run_subject(path, Path("out"), QUIET)
    result = CliRunner().invoke(main, ["plan", str(path), "--measured", "out/plan.json"])
    assert result.exit_code == 0
    assert "measuring" not in result.output


def test_a_plan_that_is_run_by_hand_falls_back_as_well(project):
    bound = qcompile.bind(qcompile.load_recipe(project(f"{MISSED} else w8a8")))
    qcompile.run(qcompile.plan(bound), "out", bound=bound)
    assert report()["attempts"]
    saved = qcompile.plan(bound).model_copy()
    save_plan(saved, Path("saved.json"))
    run_subject(Path("saved.json"), Path("again"), QUIET)
    assert model_bytes("again") == model_bytes("out")


@pytest.mark.parametrize("stop", [2, 7])
def test_a_run_that_is_stopped_goes_on_with_the_attempt_it_was_in(project, stop):
    path = project(f"{MISSED} else w8a8")
    run_subject(path, Path("wanted"), QUIET)
    seen = []
    options = RunOptions(
        work=Path("state"), should_stop=lambda: len(seen) >= stop, listener=seen.append
    )
    with pytest.raises(StopRequestedError):
        run_subject(path, Path("out"), options)
    (state,) = Path("state").iterdir()
    assert (state / "else").exists() == (stop == 7)
    result = CliRunner().invoke(main, ["resume", str(state), "-q"])
    assert result.exit_code == 0, result.output
    assert model_bytes("out") == model_bytes("wanted")
    assert len(report()["attempts"]) == 1
    assert report()["resumed_units"] == {2: 1, 7: 5}[stop]
    assert not list(Path("state").iterdir())


def test_a_scheme_that_cannot_be_carried_out_is_refused_by_the_plan(project):
    odd = BASE.replace("scheme w6a8", "scheme odd {\n  weight int8\n  bias int8\n}\nscheme w6a8")
    found = refused(lambda: plan_recipe(project(f"{MISSED} else odd", base=odd)))
    assert numbers(found) == ["QR290"]

"""A finished run as rows, Markdown and a page; names and notes are data, whatever they say."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from qcompile.cli.main import main
from qcompile.driver.run_account import account_of
from qcompile.emit.artifact_files import sealed
from qcompile.policy.core import Plan
from qcompile.report.layer_rows import HEADINGS, decibels, layer_rows
from qcompile.report.result_lines import result_lines
from qcompile.report.run_markdown import run_markdown
from qcompile.report.run_page import run_page
from qcompile.report.run_report import RunReport
from tests.driver.project import RECIPE, make_project

HOSTILE = '</title><img src=x onerror="alert(1)"> |`*'
LEARNED = """tune adaround { steps = 2 }
require agreement >= 0%
require agreement >= 100%
prepare equalize
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def account(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_project(folder, RECIPE + LEARNED)
        ran = CliRunner().invoke(main, ["run", "net.qrecipe", "-o", "out"])
    assert ran.exit_code == 4, ran.output
    return account_of(folder / "out")


@pytest.fixture
def hostile(account):
    """The same account of a layer that is called something else."""
    texts = [one.model_dump_json().replace('"conv"', json.dumps(HOSTILE)) for one in account]
    return Plan.model_validate_json(texts[0]), RunReport.model_validate_json(texts[1])


class Read(HTMLParser):
    """Tags, the cells of the first table, and the boxes of drawings."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.boxes = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "rect":
            self.boxes.append(dict(attrs))

    def handle_data(self, data):
        if self.tags and self.tags[-1] in ("td", "th") and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip("\n")


def test_decibels_are_those_of_a_power():
    assert [decibels(x) for x in (1.0, 0.1, 0.01, 2.0, 0.0, None)] == [
        *("0.0", "10.0", "20.0", "-3.0"),
        *("exact", ""),
    ]


def test_rows_have_the_errors_of_the_report_and_the_bytes_of_the_plan(account):
    plan, report = account
    rows = list(layer_rows(plan, report))
    assert [row.name for row in rows] == [
        *("conv", "blocks.0", "conv1", "conv2", "blocks.1", "conv1", "conv2", "head")
    ]
    told = {site.site: site for unit in report.units for site in unit.sites}
    planned = {site.key: site for site in plan.core.sites}
    alone = next(unit.bytes_after for unit in plan.core.units if unit.name == "conv")
    inner = sum(one.bytes_after for one in planned["blocks.0.conv1"].tensors)
    for row, key, size in ((rows[0], "conv", alone), (rows[2], "blocks.0.conv1", inner)):
        assert row.output_error == told[key].output_error is not None
        assert row.weight_error == told[key].weight_error is not None
        assert row.bytes_after == size > 0
        assert (row.weight, row.bits) == ("int4 per_channel", 4)
    (first, second) = next(u for u in report.units if u.unit == "blocks.0").reconstructions
    for row, one in ((rows[2], first), (rows[3], second)):
        assert f"kept {one.kept} after 2 steps" in row.remarks[0]
    assert not rows[1].scheme
    assert rows[2].is_inner


def test_what_was_learned_of_something_else_stands_with_the_block(account):
    plan, report = account
    unit = next(u for u in report.units if u.unit == "blocks.0")
    learned = [unit.reconstructions[0].model_copy(update={"of": of}) for of in ("part", "blocks.0")]
    changed = unit.model_copy(update={"reconstructions": tuple(learned)})
    rows = list(layer_rows(plan, report.model_copy(update={"units": (changed,)})))
    told = [text.partition(" after")[0] for text in rows[1].remarks if " after " in text]
    assert told == [f"`part`: kept {learned[0].kept}", f"kept {learned[0].kept}"]
    assert not rows[2].remarks


def test_a_report_that_knows_no_layer_leaves_its_errors_out(account):
    plan, report = account
    rows = list(layer_rows(plan, report.model_copy(update={"units": ()})))
    assert rows
    assert {(row.weight_error, row.output_error) for row in rows} == {(None, None)}


def test_lines_say_what_was_required_and_what_was_found(account):
    lines = list(result_lines(account[1]))
    assert "holds: require agreement >= 0%" in lines
    (failed,) = (line for line in lines if line.startswith("FAILED"))
    assert re.match(r"FAILED: require agreement >= 100% \(found .*\)", failed)
    assert any(line.startswith("prepared by equalize: ") for line in lines)
    assert any(re.match(r"the run took .* and .* MB \(torch ", line) for line in lines)


def test_markdown_is_a_table_that_fits(account):
    whole = run_markdown(*account)
    assert f"| {' | '.join(HEADINGS)} |" in whole
    head = run_markdown(*account, limit=1500)
    assert len(head.encode()) <= 1500
    assert "left out" in head


def test_page_is_whole_and_has_every_row(account):
    plan, report = account
    text = run_page(plan, report)
    page = Read(text)
    rows = [[cell.strip() for cell in row.cells] for row in layer_rows(plan, report)]
    assert page.rows[1 : len(rows) + 1] == rows
    assert "script" not in page.tags
    assert "A requirement of the recipe does not hold" in text
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)=", text)
    drawn = [box for box in page.boxes if float(box["width"]) > 0]
    assert len(drawn) == len(page.boxes) >= 10
    assert max(float(box["width"]) for box in drawn) == 560


def test_names_are_text_wherever_they_stand(hostile):
    page = Read(run_page(*hostile))
    assert "img" not in page.tags
    assert page.tags.count("title") == 1 + sum(tag == "g" for tag in page.tags)
    assert any(HOSTILE in cell for row in page.rows for cell in row)
    markdown = run_markdown(*hostile)
    assert "<img" not in markdown.replace("\\<img", "")


def test_command_shows_and_writes(account, folder, monkeypatch):
    monkeypatch.chdir(folder)

    def call(*arguments, status=0):
        result = CliRunner().invoke(main, ["report", "out", *arguments])
        assert result.exit_code == status, result.output
        return result.output

    text = call()
    assert "output dB" in text
    assert "FAILED: require agreement >= 100%" in text
    assert call("--format", "markdown") == run_markdown(*account)
    assert json.loads(call("--json"))["report"]["failed"] is True
    call("--format", "html", "-o", "page.html")
    assert Path("page.html").read_text() == run_page(*account)
    assert "QR901" in call("--format", "markdown", "-o", "page.html", status=1)
    assert Path("page.html").read_text() == run_page(*account)
    call("--format", "markdown", "-o", "page.html", "--replace")
    assert Path("page.html").read_text() == run_markdown(*account)
    assert "QR905" in call("-o", "nowhere/page.md", status=5)
    assert "QR901" in call("-o", "x" * 300, status=1)
    assert "no other form" in call("--json", "-o", "page.json", status=2)
    assert "no file to replace" in call("--replace", status=2)


def test_bytes_of_a_layer_that_is_a_unit_are_all_of_it(account):
    plan, report = account
    head = next(row for row in layer_rows(plan, report) if row.key == "head")
    unit = next(unit for unit in plan.core.units if unit.name == "head")
    assert (head.scheme, head.bits) == ("skip", None)
    assert (head.bytes_before, head.bytes_after) == (unit.bytes_before, unit.bytes_after)
    assert head.bytes_after > 0
    assert "head: 144 B -&gt; 144 B" in run_page(plan, report)


def test_layers_of_a_unit_of_another_name_keep_theirs(account):
    plan, report = account
    units = [unit.model_copy(update={"name": f"all of {unit.name}"}) for unit in plan.core.units]
    core = plan.core.model_copy(update={"units": tuple(units)})
    page = run_page(plan.model_copy(update={"core": core}), report)
    assert "<title>blocks.0.conv1: " in page
    assert "all of blocks.0.blocks.0" not in page


def test_nothing_at_all_is_a_report(account):
    plan, report = account
    empty = RunReport(run={}, seconds=0.0, peak_rss_mb=0.0, resumed_units=0, warnings=(), units=())
    assert "the run took 0.0 s and 0 MB" in list(result_lines(empty))
    assert "<svg" in run_page(plan, empty)
    last = report.units[-1].model_copy(update={"output_error": 0.0})
    exact = report.model_copy(update={"units": (last,)})
    assert "output of `head`: exact, on the calibration data" in list(result_lines(exact))


@pytest.mark.parametrize(
    ("target", "blend", "told"),
    [
        ("symmetric", None, "fitted to its own output, damping 0.1"),
        ("asymmetric", 1.0, "fitted to the float output, damping 0.1"),
        ("residual", 0.625, "fitted to the float output or sum, blend 0.625, damping 0.1"),
        ("residual", 0.0, "fitted to the float output or sum, blend 0, damping 0.1"),
    ],
)
def test_remarks_say_what_a_layer_was_fitted_to(account, target, blend, told):
    plan, report = account
    first = report.units[0]
    fitted = {"target": target, "blend": blend, "damping": 0.1}
    site = first.sites[0].model_copy(update=fitted)
    unit = first.model_copy(update={"sites": (site,)})
    row = next(layer_rows(plan, report.model_copy(update={"units": (unit,)})))
    assert told in row.remarks


def test_a_note_of_several_lines_is_one_cell(account):
    plan, report = account
    first = report.units[0]
    site = first.sites[0].model_copy(update={"note": "one\n  two"})
    unit = first.model_copy(update={"sites": (site,)})
    row = next(layer_rows(plan, report.model_copy(update={"units": (unit,)})))
    assert "one two" in row.cells[-1]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda d: d.pop("run"), "QR902"),
        (lambda d: d.update(seconds=-1.0), "QR902"),
        (lambda d: d["units"][0]["sites"][0].pop("weight_error"), "QR902"),
        (lambda d: d["units"][0].update(output_error=-1e-3), "QR902"),
        (lambda d: d["units"][0].update(output_error=1e999), "QR902"),
        (lambda d: d.update(format_version="9.0"), "QR908"),
        (lambda d: d.update(later=1), None),
        (lambda d: d["integer_sums"][0].update(later=1), None),
        (lambda d: [site.pop("target") for unit in d["units"] for site in unit["sites"]], None),
        (lambda d: d.pop("integer_sums"), None),
    ],
)
def test_a_report_of_another_version_or_form(account, folder, tmp_path, change, code):
    shutil.copytree(folder / "out", tmp_path / "out")
    path = tmp_path / "out" / "report.json"
    document = json.loads(path.read_text())
    del document["seal"]
    change(document)
    try:
        path.write_bytes(sealed(document))
    except ValueError:  # no seal is made of what JSON cannot hold
        path.write_text(json.dumps(document))
    result = CliRunner().invoke(main, ["report", str(tmp_path / "out")])
    assert result.exit_code == (0 if code is None else 1), result.output
    assert code is None or code in result.output


def test_a_report_that_was_changed_is_refused(account, folder, tmp_path):
    shutil.copytree(folder / "out", tmp_path / "out")
    path = tmp_path / "out" / "report.json"
    path.write_text(path.read_text().replace('"failed":true', '"failed":false'))
    result = CliRunner().invoke(main, ["report", str(tmp_path / "out")])
    assert (result.exit_code, "QR902" in result.output) == (1, True)
    assert "was changed" in result.output

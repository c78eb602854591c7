"""``resume`` goes on as the first command was told, not as the defaults are."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from qcompile.cli.main import main
from qcompile.driver.progress import StopRequestedError
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from tests.driver.project import make_project


@pytest.fixture
def unfinished(tmp_path, monkeypatch):
    """The directory of a run to ``shelf/net`` that was stopped on the way."""
    monkeypatch.chdir(tmp_path)
    recipe = make_project(tmp_path)
    seen = []
    options = RunOptions(
        work=Path("state"), should_stop=lambda: len(seen) > 3, listener=seen.append, threads=1
    )
    with pytest.raises(StopRequestedError):
        run_subject(recipe, Path("shelf/net"), options)
    (state,) = Path("state").iterdir()
    return state


def resume(*arguments):
    result = CliRunner().invoke(main, ["resume", *map(str, arguments), "-q"])
    assert "internal error" not in result.output
    return result


def test_resumed_run_writes_where_the_first_was_told_to(unfinished):
    assert resume(unfinished).exit_code == 0
    assert Path("shelf/net/manifest.json").exists()
    assert not Path("build").exists()


def test_resume_from_another_folder_means_the_same_place(unfinished, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resume(tmp_path / unfinished).exit_code == 0
    assert (tmp_path / "shelf/net/manifest.json").exists()


def test_output_that_is_named_again_wins(unfinished):
    assert resume(unfinished, "-o", "other").exit_code == 0
    assert Path("other/manifest.json").exists()
    assert not Path("shelf").exists()


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_text("{}")])
def test_directory_that_does_not_say_how_it_was_started(unfinished, damage):
    damage(unfinished / "intent.json")
    result = resume(unfinished)
    assert result.exit_code == 7
    assert "QR907" in result.output
    assert not Path("build").exists()

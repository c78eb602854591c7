import os
import time

import pytest

from qcompile.driver.front import check
from qcompile.driver.project_files import ProjectFiles
from qcompile.policy.imports import Refusal

LIBRARY = "qrecipe 1\nscheme w8 { weight int8 }\n"


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    (root / "lib").mkdir(parents=True)
    (root / "qcompile.toml").write_text("")
    (root / "lib" / "schemes.qrecipe").write_text(LIBRARY)
    (tmp_path / "outside.qrecipe").write_text(LIBRARY)
    return root


def problems(project, path):
    recipe = project / "a.qrecipe"
    recipe.write_text(f'qrecipe 1\nimport "{path}" as x\npolicy main {{ use x.w8 for conv }}\n')
    began = time.monotonic()
    found = check(recipe).diagnostics
    assert time.monotonic() - began < 5
    return [(item.code.number, item.primary.text) for item in found]


@pytest.mark.parametrize("path", ["lib/schemes.qrecipe", "./lib/../lib/schemes.qrecipe"])
def test_file_of_the_project_is_read(project, path):
    assert problems(project, path) == []


def test_import_from_a_folder_above_the_recipe_stays_in_the_project(project):
    (project / "models").mkdir()
    recipe = project / "models" / "a.qrecipe"
    recipe.write_text('qrecipe 1\nimport "../lib/schemes.qrecipe" as x\nscheme s extends x.w8 {}\n')
    assert check(recipe).diagnostics == ()


def test_without_a_mark_the_project_is_the_folder_of_the_recipe(tmp_path):
    assert ProjectFiles.around(tmp_path / "a.qrecipe").root == tmp_path.resolve()


@pytest.mark.parametrize("path", ["../outside.qrecipe", "lib/../../outside.qrecipe"])
def test_file_outside_is_refused_though_it_exists(project, path):
    assert problems(project, path) == [("QR204", "it lies outside of the project")]


def test_link_out_of_the_project_is_followed_before_the_check(project):
    (project / "link.qrecipe").symlink_to(project.parent / "outside.qrecipe")
    (project / "up").symlink_to(project.parent)
    for path in ("link.qrecipe", "up/outside.qrecipe"):
        assert problems(project, path) == [("QR204", "it lies outside of the project")]


def test_link_inside_the_project_is_followed(project):
    (project / "link.qrecipe").symlink_to("lib/schemes.qrecipe")
    assert problems(project, "link.qrecipe") == []


def test_nothing_outside_is_even_opened(project, monkeypatch):
    (project / "link.qrecipe").symlink_to(project.parent / "outside.qrecipe")
    opened = []
    monkeypatch.setattr("qcompile.driver.project_files.read", lambda *names: opened.append(names))
    for name in ("link.qrecipe", "../outside.qrecipe", "../../../../../etc/passwd"):
        found = ProjectFiles(project).read(str(project / name))
        assert isinstance(found, Refusal)
        assert found.leaves
    assert opened == []


def test_what_is_no_text_file_is_refused_without_waiting(project):
    os.mkfifo(project / "pipe.qrecipe")
    (project / "folder.qrecipe").mkdir()
    (project / "latin.qrecipe").write_bytes("qrecipe 1 # schön\n".encode("latin-1"))
    (project / "round.qrecipe").symlink_to("round.qrecipe")
    for name in ("pipe", "folder", "latin", "round", "x" * 300):
        ((code, _),) = problems(project, f"{name}.qrecipe")
        assert code == "QR205", name


def test_missing_file_lists_the_nearest_beside_it(project):
    recipe = project / "a.qrecipe"
    recipe.write_text('qrecipe 1\nimport "lib/scheme.qrecipe" as x\n')
    (problem,) = check(recipe).diagnostics
    assert problem.code.number == "QR205"
    assert "lib/schemes.qrecipe`" in problem.help


def test_recipe_that_imports_itself_through_another_is_a_cycle(project):
    (project / "b.qrecipe").write_text(f'{LIBRARY}import "a.qrecipe" as a\n')
    ((code, reason),) = problems(project, "b.qrecipe")
    assert (code, reason.split(":")[0]) == ("QR205", "a cycle")


def test_unknown_library_lists_those_there_are(project):
    recipe = project / "a.qrecipe"
    recipe.write_text('qrecipe 1\nimport "std:cnm" as x\n')
    (problem,) = check(recipe).diagnostics
    assert problem.code.number == "QR205"
    assert '"std:cnn"' in problem.help

"""The rules of the house that a machine can check."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import qcompile
from qcompile.diagnostics.codes import Code

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "qcompile"
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOT_FOLDERS = {"qcompile", "grammars", "recipes", "tests", "docs"}
BANNED_NAMES = {"utils", "helpers", "common", "core", "manager", "misc", "model"}


def test_import_contracts_hold():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_root_has_only_the_agreed_folders():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    folders = {path.split("/")[0] for path in tracked if "/" in path}
    assert {name for name in folders if not name.startswith(".")} == ROOT_FOLDERS


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_module_is_small_and_named_after_an_idea(path):
    assert len(path.read_text().splitlines()) <= 500
    assert path.stem not in BANNED_NAMES - {"core"}


def test_inner_packages_have_empty_init_files():
    for path in PACKAGE.rglob("__init__.py"):
        if path.parent != PACKAGE:
            assert path.read_text() == "", path


def test_functions_import_nothing_outside_the_command_line():
    for path in MODULES:
        if path.is_relative_to(PACKAGE / "cli") or path == PACKAGE / "__init__.py":
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                inner = [
                    n for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)
                ]
                assert not inner, f"{path}:{inner[0].lineno}"


def test_public_names_are_sorted_and_resolve():
    assert qcompile.__all__ == sorted(qcompile.__all__)
    for name in qcompile.__all__:
        assert getattr(qcompile, name) is not None


def test_public_functions_are_in_the_api_page():
    page = (ROOT / "docs" / "api.md").read_text()
    for name in qcompile.__all__:
        assert f"`{name}" in page, name


def test_version_is_stated_once_in_the_project_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == qcompile.__version__


@pytest.mark.parametrize("statement", ["import qcompile", "import qcompile.cli.main"])
def test_start_up_loads_no_torch(statement):
    code = f"{statement}; import sys; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_check_without_a_model_loads_no_torch_and_no_pydantic(tmp_path):
    recipe = tmp_path / "a.qrecipe"
    recipe.write_text("qrecipe 1\nscheme w8 { weight int8 }\npolicy main { use w8 for linear }\n")
    code = (
        "import sys; from click.testing import CliRunner; from qcompile.cli.main import main;"
        f"r = CliRunner().invoke(main, ['check', {str(recipe)!r}]);"
        "print(r.exit_code, [m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 []"


@pytest.mark.parametrize("code", list(Code), ids=lambda c: c.number)
def test_every_code_has_a_page_a_builder_and_a_test(code):
    page = (ROOT / "docs" / "errors" / f"{code.number}.md").read_text()
    assert page.startswith(f"# {code.number} {code.slug}\n")
    for part in ("## Why", "## Wrong", "## Right", "## Silence"):
        assert part in page, f"{code.number} has no {part}"
    used = [p for p in MODULES if re.search(rf"Code\.{code.name}\b", p.read_text())]
    assert [p for p in used if p.name != "codes.py"], f"nothing builds {code.number}"
    tests = [
        *ROOT.glob("tests/**/*.py"),
        *ROOT.glob("tests/**/*.md"),
        *ROOT.glob("tests/**/*.expected"),
    ]
    assert any(re.search(rf"{code.number}|Code\.{code.name}\b", p.read_text()) for p in tests), (
        f"no test yields {code.number}"
    )


def test_error_pages_have_a_code():
    numbers = {code.number for code in Code}
    assert {p.stem for p in (ROOT / "docs" / "errors").glob("*.md")} == numbers


def test_numbers_and_names_of_codes_are_unique():
    assert len({c.number for c in Code}) == len({c.slug for c in Code}) == len(list(Code))


def test_every_pass_is_in_the_registry():
    from qcompile.passes.pipeline import PASSES

    in_tuple = {pass_type.__module__.rsplit(".", 1)[1] for pass_type in PASSES}
    with_pass = {
        p.stem for p in (PACKAGE / "passes").glob("*.py") if "ClassVar[str] = " in p.read_text()
    }
    assert in_tuple == with_pass


def test_every_rule_is_in_the_registry():
    from qcompile.analysis.rules.registry import RULES

    in_tuple = {rule.__module__.rsplit(".", 1)[1] for rule in RULES}
    files = {p.stem for p in (PACKAGE / "analysis" / "rules").glob("*.py")}
    assert in_tuple == files - {"__init__", "registry"}


def test_nothing_points_outside_the_repository():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    outside = re.compile(r"(^|[^A-Za-z0-9_.])/(work|root|home)/[A-Za-z]|\.\./shared")
    for name in tracked:
        path = ROOT / name
        if path == Path(__file__) or not path.exists() or path.suffix in {".safetensors", ".npz"}:
            continue
        assert not outside.search(path.read_text(errors="replace")), name

"""Bad factories: every one gets its code, only the user's own frames, and a clean stdout."""

import os
import sys

import pytest

from qcompile.data.import_factory import call_factory
from qcompile.data.project import project_around
from qcompile.data.purpose import MODEL
from qcompile.data.reference import CallableReference
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic


def call(text, root, *, args=(), trusted=frozenset()):
    module, _, attribute = text.partition(":")
    reference = CallableReference(module, attribute)
    return call_factory(reference, args, MODEL, project_around(root, trusted))


def test_arguments_reach_the_factory(project, write):
    write("net.py", "def build(*args): return args")
    assert call("net:build", project, args=(3, "x", None, (1, 2.5))) == (3, "x", None, (1, 2.5))


def test_the_path_is_restored_and_was_set_during_the_call(project, write):
    write("sub/late.py", "VALUE = 7")
    write("sub/net.py", "def build():\n    import late\n    return late.VALUE")
    before = list(sys.path)
    assert call("net:build", project / "sub") == 7
    assert sys.path == before


def test_a_module_is_found_from_the_project_root_too(project, write):
    write("pkg/__init__.py", "")
    write("pkg/net.py", "def build(): return 1")
    (project / "recipes").mkdir()
    assert call("pkg.net:build", project / "recipes") == 1


def test_a_package_without_init_is_of_the_project(project, write):
    write("plain/deep/net.py", "def build(): return 1")
    assert call("plain.deep.net:build", project) == 1


def test_two_projects_with_one_module_name_each_get_their_own(tmp_path):
    results = []
    for name in ("first", "second", "first"):
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        (root / "qcompile.toml").write_text("")
        (root / "twin_net.py").write_text("import twin_part\ndef build(): return twin_part.NAME")
        (root / "twin_part.py").write_text(f"NAME = {name!r}")
        results.append(call("twin_net:build", root))
    assert results == ["first", "second", "first"]
    assert sys.modules["twin_net"].__file__ == str(tmp_path / "first" / "twin_net.py")


NET = """
import sys
VALUE = 3
class Boom(Exception):
    def __str__(self): raise RuntimeError("no text")
def build(): return VALUE
def fails(): return inner()
def inner(): raise ValueError("first line\\n  second\\x1b[31m line")
def leaves(): sys.exit(3)
def base(): raise BaseException("rare")
def unprintable(): raise Boom()
def deep(): return deep()
def needs(x): return x
def __getattr__(name):
    if name == "dynamic": raise KeyError("odd")
    raise AttributeError(name)
"""

OUTSIDE = "module `{}` is outside the project and not trusted"
CODE = "import pathlib\npathlib.Path('{}').touch()\ndef build(): return 1"


@pytest.mark.parametrize(
    ("text", "code", "message", "way_out"),
    [
        ("nett:build", Code.MODEL_REFERENCE, "module `nett` is not found", "`net`"),
        ("net.sub:build", Code.MODEL_REFERENCE, "module `net.sub` is not found", None),
        ("net.py:build", Code.MODEL_REFERENCE, "module `net.py` is not found", "`net`"),
        ("pkg.nte:build", Code.MODEL_REFERENCE, "module `pkg.nte` is not found", "`net`"),
        ("net:biuld", Code.MODEL_REFERENCE, "module `net` has no `biuld`", "`build`"),
        ("net:VALUE", Code.MODEL_REFERENCE, "`net:VALUE` is a `int`, not a function", "returns"),
        ("net:dynamic", Code.MODEL_FACTORY, "`net:dynamic` raised an exception", None),
        ("net:fails", Code.MODEL_FACTORY, "`net:fails` raised an exception", None),
        ("net:leaves", Code.MODEL_FACTORY, "`net:leaves` called `sys.exit`", None),
        ("net:base", Code.MODEL_FACTORY, "`net:base` raised an exception", None),
        ("net:unprintable", Code.MODEL_FACTORY, "`net:unprintable` raised an exception", None),
        ("net:deep", Code.MODEL_FACTORY, "`net:deep` raised an exception", None),
        ("net:needs", Code.MODEL_FACTORY, "`net:needs` raised an exception", None),
        ("broken:build", Code.MODEL_FACTORY, "`broken` raised an exception", None),
        ("lacks:build", Code.MODEL_FACTORY, "`lacks` raised an exception", None),
        ("quits:build", Code.MODEL_FACTORY, "`quits` called `sys.exit`", None),
        ("os:system", Code.MODEL_REFERENCE, OUTSIDE.format("os"), "--trust os"),
        ("sys:exit", Code.MODEL_REFERENCE, OUTSIDE.format("sys"), "--trust sys"),
        ("__main__:x", Code.MODEL_REFERENCE, None, None),
        ("torch.nn:Linear", Code.MODEL_REFERENCE, OUTSIDE.format("torch"), "--trust torch"),
    ],
)  # fmt: skip
def test_every_bad_factory_has_its_code(project, write, text, code, message, way_out):
    write("net.py", NET)
    write("pkg/__init__.py", "")
    write("pkg/net.py", "")
    write("broken.py", "def build(:\n")
    write("lacks.py", "import no_such_dependency")
    write("quits.py", "import sys\nsys.exit('bye')")
    problem = call(text, project)
    assert isinstance(problem, Diagnostic)
    assert problem.code is code
    assert message is None or problem.message == message
    assert way_out is None or way_out in (problem.help or "")


def test_notes_hold_the_text_and_the_users_frames_only(project, write):
    write("net.py", NET)
    problem = call("net:fails", project)
    assert isinstance(problem, Diagnostic)
    assert problem.notes == (
        "ValueError: first line second[31m line",
        "net.py:7 in `fails`",
        "net.py:8 in `inner`",
    )
    assert problem.subject == "net.py:8 in `inner`"


def test_frames_of_torch_are_left_out(project, write):
    write("net.py", "import torch\ndef build(): return torch.nn.Linear(2, 3)(torch.zeros(5))")
    problem = call("net:build", project)
    assert isinstance(problem, Diagnostic)
    assert problem.notes[1:] == ("net.py:2 in `build`",)


def test_a_syntax_error_names_its_line(project, write):
    write("broken.py", "x = 1\ndef build(:\n")
    problem = call("broken:build", project)
    assert isinstance(problem, Diagnostic)
    assert problem.subject == "broken.py:2"


def test_nothing_outside_the_project_is_imported(project, tmp_path, monkeypatch):
    marker = tmp_path / "ran"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "stranger.py").write_text(CODE.format(marker))
    monkeypatch.syspath_prepend(str(outside))
    problem = call("stranger:build", project)
    assert isinstance(problem, Diagnostic)
    assert "--trust stranger" in (problem.help or "")
    assert not marker.exists()
    assert call("stranger:build", project, trusted=frozenset({"stranger"})) == 1


def test_a_link_out_of_the_project_is_outside(project, tmp_path):
    (tmp_path / "real_stranger.py").write_text("def build(): return 1")
    (project / "linked.py").symlink_to(tmp_path / "real_stranger.py")
    problem = call("linked:build", project)
    assert isinstance(problem, Diagnostic)
    assert problem.code is Code.MODEL_REFERENCE


def test_an_installed_package_inside_the_project_is_not_its_code(project, write, monkeypatch):
    write(".venv/lib/site-packages/vendored_net.py", "def build(): return 1")
    monkeypatch.syspath_prepend(str(project / ".venv/lib/site-packages"))
    problem = call("vendored_net:build", project)
    assert isinstance(problem, Diagnostic)
    assert "--trust vendored_net" in (problem.help or "")


def test_a_file_named_like_a_module_of_python_is_never_run(project, write, tmp_path):
    marker = tmp_path / "ran"
    write("colorsys.py", CODE.format(marker))
    assert isinstance(call("colorsys:build", project), Diagnostic)
    assert not marker.exists()


def test_stdout_stays_clean(project, write, capfd):
    write(
        "noisy.py",
        """
        import os, subprocess, sys
        print("at import")
        def build():
            print("in the factory")
            os.write(1, b"by descriptor\\n")
            sys.__stdout__.write("by the original stream\\n")
            subprocess.run(["echo", "by a child"])
            return 1
        """,
    )
    assert call("noisy:build", project) == 1
    print("ours")
    os.write(1, b"")
    out, err = capfd.readouterr()
    assert out == "ours\n"
    for text in ("at import", "in the factory", "by descriptor", "by a child"):
        assert text in err


def test_ctrl_c_is_not_swallowed(project, write):
    write("stopped.py", "def build(): raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        call("stopped:build", project)

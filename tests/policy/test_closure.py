import pytest

from qcompile.diagnostics.source import Source
from qcompile.policy.closure import MAX_DEPTH, MAX_FILES, load_closure
from qcompile.policy.imports import Refusal, StoredTexts, locate
from qcompile.policy.lower import lower
from qcompile.syntax.parse import parse


def text(*imports, rest=""):
    lines = [f'import "{path}" as a{number}' for number, path in enumerate(imports)]
    return "\n".join(["qrecipe 1", *lines, rest, ""])


def closure(files, first="a.qrecipe"):
    source = Source(first, files[first])
    file, problems = parse(source)
    assert file is not None, problems
    return load_closure(file, source, StoredTexts(files))


def lowered(files, arguments=None):
    source = Source("a.qrecipe", files["a.qrecipe"])
    file, _ = parse(source)
    return lower(file, source, StoredTexts(files), arguments or {})


def reasons(diagnostics):
    return [(item.code.number, item.primary.text) for item in diagnostics]


def test_file_is_called_by_the_shortest_way_to_it():
    files = {
        "a.qrecipe": text("lib/b.qrecipe", "lib/d.qrecipe"),
        "lib/b.qrecipe": text("c.qrecipe", "d.qrecipe"),
        "lib/c.qrecipe": text("d.qrecipe"),
        "lib/d.qrecipe": text(),
    }
    found, problems = closure(files)
    assert not problems
    assert {one.source.name: one.prefix for one in found} == {
        "a.qrecipe": "",
        "lib/b.qrecipe": "a0.",
        "lib/d.qrecipe": "a1.",
        "lib/c.qrecipe": "a0.a0.",
    }


def test_recipe_keeps_its_closure_with_itself_first():
    files = {
        "a.qrecipe": text("b.qrecipe"),
        "b.qrecipe": text("c.qrecipe"),
        "c.qrecipe": text(),
    }
    recipe, _ = lowered(files)
    assert [source.name for source in recipe.closure] == ["a.qrecipe", "b.qrecipe", "c.qrecipe"]
    assert recipe.closure[0] is recipe.source


@pytest.mark.parametrize("length", [1, 2, 3])
def test_cycle_of_files_is_refused_where_it_closes(length):
    names = [f"{name}.qrecipe" for name in "abc"[:length]]
    files = {name: text(other) for name, other in zip(names, [*names[1:], names[0]], strict=True)}
    found, (problem,) = closure(files)
    assert [one.source.name for one in found] == names
    assert problem.primary.span.source.name == names[-1]
    listed = " -> ".join(f"`{name}`" for name in [*names, names[0]])
    assert reasons([problem]) == [("QR205", f"a cycle: {listed}")]


def chain(count):
    files = {f"f{i}.qrecipe": text(f"f{i + 1}.qrecipe") for i in range(count - 1)}
    return {"a.qrecipe": text("f0.qrecipe"), **files, f"f{count - 1}.qrecipe": text()}


def test_sixteen_files_in_a_row_are_read_and_seventeen_are_not():
    assert closure(chain(MAX_DEPTH - 1))[1] == []
    _, (problem,) = closure(chain(MAX_DEPTH))
    assert reasons([problem]) == [("QR205", "imports are nested deeper than 16 files")]


def test_sixty_four_files_are_read_and_the_next_is_not():
    def star(count):
        names = [f"f{i}.qrecipe" for i in range(count - 1)]
        return {"a.qrecipe": text(*names), **dict.fromkeys(names, text())}

    assert closure(star(MAX_FILES))[1] == []
    found, problems = closure(star(MAX_FILES + 1))
    assert len(found) == MAX_FILES
    assert reasons(problems) == [("QR205", "the recipe has more than 64 files")]


def test_text_of_all_files_is_bounded():
    big = text(rest="#" + "x" * 900_000)
    names = ["b.qrecipe", "c.qrecipe", "d.qrecipe"]
    _, problems = closure({"a.qrecipe": text(*names), **dict.fromkeys(names, big)})
    assert [problem.primary.span.text for problem in problems] == ['"d.qrecipe"']


def test_file_is_read_once_however_often_it_is_imported():
    class Counting(StoredTexts):
        asked = 0

        def read(self, name):
            Counting.asked += 1
            return super().read(name)

    files = {"a.qrecipe": text(*["b.qrecipe"] * 500, *["no.qrecipe"] * 500), "b.qrecipe": text()}
    source = Source("a.qrecipe", files["a.qrecipe"])
    load_closure(parse(source)[0], source, Counting(files))
    assert Counting.asked == 2


def test_diagnostics_of_an_import_are_shown_in_its_own_text():
    files = {"a.qrecipe": text("b.qrecipe"), "b.qrecipe": text(rest="scheme w { weight in4 }")}
    recipe, (problem,) = lowered(files)
    assert recipe is None
    assert problem.code.number == "QR404"
    assert str(problem.primary.span).startswith("b.qrecipe:2:")


def test_syntax_error_of_an_import_causes_no_follow_up_in_the_importer():
    files = {
        "a.qrecipe": text("b.qrecipe", rest="policy main extends a0.p { use a0.w for conv }"),
        "b.qrecipe": text(rest="scheme w { weight"),
    }
    _, problems = lowered(files)
    assert {problem.primary.span.source.name for problem in problems} == {"b.qrecipe"}


def test_newer_language_of_an_import_is_named():
    files = {"a.qrecipe": text("b.qrecipe"), "b.qrecipe": "qrecipe 2\n"}
    _, (problem,) = lowered(files)
    assert (problem.code.number, problem.primary.span.source.name) == ("QR207", "b.qrecipe")


def test_names_mean_what_they_mean_in_their_own_file():
    """Both files have a `w`, a `late` and a `base`; the policy of the import keeps its own."""
    rest = "scheme w {{ weight int{} }}\nselect late = depth > {}\npolicy base {{ use w for late }}"
    files = {
        "a.qrecipe": text("b.qrecipe", rest=rest.format(4, 1) + "\npolicy main extends a0.base {}"),
        "b.qrecipe": text(rest=rest.format(8, 7)),
    }
    recipe, problems = lowered(files)
    assert not problems
    (rule,) = recipe.rules
    assert (rule.action.scheme, rule.policy) == ("a0.w", "a0.base")
    assert rule.selector.item.right.value == 7
    assert recipe.schemes["a0.w"].weight.bits == 8
    assert rule.reference.file == "b.qrecipe"


@pytest.mark.parametrize(
    ("path", "importer", "name"),
    [
        ("x.qrecipe", "a.qrecipe", "x.qrecipe"),
        ("lib/x.qrecipe", "dir/a.qrecipe", "dir/lib/x.qrecipe"),
        ("../x.qrecipe", "dir/a.qrecipe", "x.qrecipe"),
        ("../../x.qrecipe", "dir/a.qrecipe", "../x.qrecipe"),
        ("./x.qrecipe", "/abs/a.qrecipe", "/abs/x.qrecipe"),
        ("std:cnn", "dir/a.qrecipe", "std:cnn"),
        ("std:cnn", "std:edge", "std:cnn"),
    ],
)
def test_path_is_relative_to_the_importing_file(path, importer, name):
    assert locate(path, importer) == name


@pytest.mark.parametrize(
    ("path", "leaves"),
    [
        *[
            (path, True)
            for path in ("/x", "~", "~u/x", "http://x", "C:/x", "\\\\host\\x", "file:x")
        ],
        *[(path, False) for path in ("", "a\0b", "a\\b", "std:", "std:../x", "std:A")],
    ],
)
def test_path_that_is_no_relative_path_is_refused(path, leaves):
    refusal = locate(path, "a.qrecipe")
    assert isinstance(refusal, Refusal)
    assert refusal.leaves is leaves


def test_library_imports_libraries_alone():
    assert isinstance(locate("x.qrecipe", "std:cnn"), Refusal)

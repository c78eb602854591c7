"""``.qtest`` files: what must be true of a recipe on its model, without running it."""

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label, in_order
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source, Span
from qcompile.driver.bind import bind
from qcompile.driver.front import check, settled
from qcompile.driver.open_plan import before_choosing
from qcompile.driver.plan import bound_fallbacks
from qcompile.syntax.nodes import Assertion, Let, RecipeFile, Select
from qcompile.syntax.parse import parse
from qcompile.syntax.read import read

HEADER = "qtest 1"
AS_RECIPE = "qrecipe 1"
FORMS = 'write `recipe "FILE"`, `param NAME = VALUE`, `diagnostics QR303` or `expect ...`'

_OWN_LINE = re.compile(r"(?P<word>recipe|param|diagnostics)\b(?P<rest>.*)")
_PARAM = re.compile(r"(?P<name>[A-Za-z_][\w.]*)\s*=\s*(?P<value>.+)")
_CODE = re.compile(r"QR\d{3}")


@dataclass(frozen=True, slots=True)
class RecipeTest:
    """One file, read. ``expected`` are the codes of the errors and warnings it wants, no others."""

    path: Path
    recipe: Path
    params: dict[str, str]
    expected: frozenset[str] | None
    """``None``: no error; warnings do not count."""
    expected_at: Span
    expectations: RecipeFile


@dataclass(frozen=True, slots=True)
class Outcome:
    path: Path
    passed: int
    failures: tuple[Diagnostic, ...]


def find_tests(paths: list[Path]) -> list[Path]:
    """The files among ``paths``, and every ``*.qtest`` below the folders among them."""
    found = [
        file for path in paths for file in (path.rglob("*.qtest") if path.is_dir() else [path])
    ]
    return sorted(dict.fromkeys(found))


def run_test(path: Path, trusted: frozenset[str] = frozenset()) -> Outcome:
    test = read_test(path)
    if isinstance(test, list):
        return Outcome(path, 0, tuple(test))
    found = _diagnostics(test, trusted)
    own = [item for item in found if _is_of(test, item)]
    others = [item for item in found if not _is_of(test, item)]
    codes = _unexpected(test, others)
    claims = sum(isinstance(node, Assertion) for node in test.expectations.statements)
    early = any(item.is_error and item.code is not Code.EXPECTATION_FAILED for item in found)
    held = 0 if early else claims - len(own)  # an early error leaves expectations unlooked at
    passed = held + (test.expected is not None and not codes)
    return Outcome(path, passed, tuple(in_order([*own, *codes])))


def _diagnostics(test: RecipeTest, trusted: frozenset[str]) -> list[Diagnostic]:
    checked = check(test.recipe, test.params, test.expectations)
    if checked.recipe is None:
        return list(checked.diagnostics)
    if checked.recipe.is_library:
        reason = "the recipe has no `model` to test it on"
        return [*checked.diagnostics, bad_line(test.expected_at, reason)]
    try:
        bound = bind(checked.recipe, trusted=trusted)
        said = [*bound.diagnostics, *before_choosing(bound)]
        own = [one for one in bound.recipe.assertions if one.span.source.name != str(test.path)]
        recipe = replace(bound.recipe, assertions=tuple(own))  # the test's are of the policy
        for _ in bound_fallbacks(replace(bound, recipe=recipe), said):
            pass
        return settled(checked, said)
    except CompileError as error:
        return settled(checked, error.diagnostics)


def _is_of(test: RecipeTest, item: Diagnostic) -> bool:
    return item.primary is not None and item.primary.span.source.name == str(test.path)


def _unexpected(test: RecipeTest, found: list[Diagnostic]) -> list[Diagnostic]:
    if test.expected is None:
        return [item for item in found if item.is_error]
    codes = {item.code.number for item in found}
    surplus = [item for item in found if item.code.number not in test.expected]
    missing = sorted(test.expected - codes)
    return [*surplus, *(not_reported(code, test.expected_at) for code in missing)]


# ---- reading ----------------------------------------------------------------------------------


def read_test(path: Path) -> RecipeTest | list[Diagnostic]:
    source = read(path)
    if isinstance(source, list):
        return source
    reader = _Reader(source)
    lines = [reader.line(number, text) for number, text in enumerate(source.text.split("\n"))]
    masked = Source(source.name, "\n".join(lines))
    if reader.problems:
        return reader.problems
    if reader.recipe is None:
        return [bad_line(source.span(0, 0), 'the test names no recipe: `recipe "FILE"`')]
    file, problems = parse(masked)
    if file is None:
        return problems
    wrong = [n for n in file.statements if not isinstance(n, Assertion | Let | Select)]
    if wrong:
        return [bad_line(node.span, "a test cannot hold this statement") for node in wrong]
    recipe = path.parent / reader.recipe
    return RecipeTest(path, recipe, reader.params, reader.expected, reader.expected_at, file)


class _Reader:
    """Reads the lines that only tests have, and leaves blanks: the rest is the recipe language."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.recipe: str | None = None
        self.params: dict[str, str] = {}
        self.expected: frozenset[str] | None = None
        self.expected_at = source.span(0, 0)
        self.problems: list[Diagnostic] = []

    def line(self, number: int, text: str) -> str:
        """What the parser of recipes shall see."""
        start = self.source.line_start(number + 1)
        span = self.source.span(start, start + len(text))
        if number == 0:
            if text.rstrip() != HEADER:
                self.problems.append(bad_line(span, f"a test begins with `{HEADER}`"))
            return AS_RECIPE
        own = _OWN_LINE.match(text)
        if own is None:
            return text
        if not self._own(own["word"], own["rest"], span):
            self.problems.append(bad_line(span, f"`{own['word']}` is not written like this"))
        return " " * len(text)

    def _own(self, word: str, rest: str, span: Span) -> bool:
        try:
            parts = shlex.split(rest, comments=True)
        except ValueError:  # a quotation that does not end
            return False
        match word:
            case "recipe":
                self.recipe = parts[0] if len(parts) == 1 and self.recipe is None else None
                return self.recipe is not None
            case "param":
                given = _PARAM.fullmatch(" ".join(parts))
                if given is not None:
                    self.params[given["name"]] = given["value"]
                return given is not None
            case _:
                wanted = [] if parts == ["none"] else parts
                self.expected, self.expected_at = frozenset(wanted), span
                return bool(parts) and all(_CODE.fullmatch(code) for code in wanted)


def bad_line(span: Span, reason: str) -> Diagnostic:
    """QR608."""
    return Diagnostic(Code.TEST_FILE, "the test cannot be read", Label(span, reason), help=FORMS)


def not_reported(code: str, span: Span) -> Diagnostic:
    """QR609."""
    return Diagnostic(
        Code.NOT_REPORTED,
        f"`{code}` was not reported",
        Label(span, "expected here"),
        help="mend the recipe, or what the test expects",
    )

"""Text to the tree of a recipe, or to everything that is wrong with the text."""

from lark.exceptions import UnexpectedInput

from qcompile.diagnostics.diagnostic import Diagnostic, has_errors, in_order
from qcompile.diagnostics.source import Source
from qcompile.syntax.branches import Branch, tree
from qcompile.syntax.classify import classify
from qcompile.syntax.grammar import parser
from qcompile.syntax.limits import MAX_FILE_BYTES
from qcompile.syntax.nodes import RecipeFile
from qcompile.syntax.problems import file_too_large
from qcompile.syntax.recovery import Recovery
from qcompile.syntax.stop import stop_at
from qcompile.syntax.tree import build_file

MAX_ERRORS = 20


def parse(source: Source) -> tuple[RecipeFile | None, list[Diagnostic]]:
    """Exactly one of the two: a file and no diagnostics, or None and at least one."""
    if len(source.text) > MAX_FILE_BYTES:
        return None, [file_too_large(source.name)]
    root, found = _tree(source)
    if root is None:
        return None, in_order(found, MAX_ERRORS)
    file, problems = build_file(root, source)
    return (None, in_order(problems, MAX_ERRORS)) if has_errors(problems) else (file, [])


def _tree(source: Source) -> tuple[Branch | None, list[Diagnostic]]:
    state = parser().parse_interactive(source.text)
    recovery = Recovery(state, source)
    found: list[Diagnostic] = []
    while True:
        try:
            root = tree(state.resume_parse())
        except UnexpectedInput as error:
            stop = stop_at(error, state, source)
            diagnostic = classify(stop)
            if not found or _start(found[-1]) != _start(diagnostic):
                found.append(diagnostic)
            if len(found) == MAX_ERRORS or not recovery.step(stop, diagnostic):
                return None, found
        else:
            return (None, found) if found else (root, found)


def _start(diagnostic: Diagnostic) -> int | None:
    return diagnostic.primary.span.start if diagnostic.primary else None

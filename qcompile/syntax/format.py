"""The formatter: one layout for each recipe, and proof that nothing but blanks has changed."""

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Source
from qcompile.syntax.atoms import atoms
from qcompile.syntax.layout import lay_out
from qcompile.syntax.meaning import same_comments, same_meaning
from qcompile.syntax.nodes import RecipeFile
from qcompile.syntax.parse import parse
from qcompile.syntax.pieces import grouped


def format_text(source: Source) -> str | list[Diagnostic]:
    """Lay ``source`` out anew; a text with errors is left to its author."""
    file, problems = parse(source)
    return problems if file is None else formatted(file, source)


def formatted(file: RecipeFile, source: Source) -> str:
    """The same of a text whose tree is at hand. Raises if the new text says something else."""
    text = lay_out(*grouped(atoms(source, file.comments)))
    again, _ = parse(Source(source.name, text))
    if again is None or not same_meaning(file, again) or not same_comments(file, again):
        raise AssertionError(f"formatting `{source.name}` would change what it says")
    return text

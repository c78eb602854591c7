"""The recipe line that decided something, as a plan names it."""

from qcompile.diagnostics.frozen import frozen


@frozen
class RuleRef:
    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

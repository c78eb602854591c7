"""The exception that carries diagnostics across a call that cannot return a value."""

from qcompile.diagnostics.diagnostic import Diagnostic


class CompileError(Exception):
    """One or more problems a user can cause; raised by the Python API, printed by the CLI.

    ::

        try:
            artifact = qcompile.run(plan)
        except qcompile.CompileError as error:
            for diagnostic in error.diagnostics:
                print(diagnostic.code.number, diagnostic.message)
    """

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        self.diagnostics = diagnostics
        super().__init__("; ".join(f"{d.code.number}: {d.message}" for d in diagnostics))

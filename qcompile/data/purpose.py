"""What a reference is for, which decides the codes of its problems."""

from dataclasses import dataclass

from qcompile.diagnostics.codes import Code


@dataclass(frozen=True, slots=True)
class Purpose:
    noun: str
    reference: Code
    """The text names nothing that we can or may use."""
    failure: Code
    """It was called, and failed or returned something else."""


MODEL = Purpose("model", Code.MODEL_REFERENCE, Code.MODEL_FACTORY)
DATA = Purpose("data", Code.DATA_REFERENCE, Code.DATA_REFERENCE)
METRIC = Purpose("metric", Code.METRIC, Code.METRIC)

"""The text of the recipe that ``init`` writes, with the reason for each of its lines."""

from collections.abc import Sequence
from dataclasses import dataclass

from qcompile.driver.starting_policy import Start
from qcompile.syntax.expression_text import quoted_text


@dataclass(frozen=True, slots=True)
class StartingData:
    """References of a model's data."""

    calibration: str
    test: str


PLACEHOLDER = "my_data:calibration"
"""A reference that is legal and leads nowhere: only the user knows what leads on."""
REPLACE_IT = """\
# To be replaced: a function beside this file that returns a tensor, or a tuple or
# dict of tensors, with a row a sample. `qcompile plan --preview` does without it."""


def probe_text(reference: str, inputs: Sequence[str]) -> str:
    """A recipe that names the model and decides nothing."""
    return f"qrecipe 1\n{_model(reference, inputs)}\npolicy main {{}}\n"


def recipe_text(
    reference: str, inputs: Sequence[str], start: Start, data: StartingData | None
) -> str:
    """The starting recipe, not laid out yet."""
    parts = (
        "qrecipe 1",
        _model(reference, inputs),
        f"# Chosen for what the graph holds: {start.because}.\n{_import(start)}",
        _policy(start),
        _calibrate(data),
        "# Fits each layer in closed form; `tune rtn` rounds to nearest, `tune brecq` learns.\n"
        "tune hybrid",
        *([] if data is None else [_evaluate(data)]),
        "# What holds of every plan, whoever edits the policy.\n"
        + "\n".join(f"expect {line}" for line in start.expects),
    )
    return "\n\n".join(parts) + "\n"


def _model(reference: str, inputs: Sequence[str]) -> str:
    """``inputs`` are ``float32[batch, 3]``, or, one or more, ``name=float32[batch, 3]``."""
    head = f"model {quoted_text(reference)}"
    if not inputs:
        return head
    if "=" in inputs[0]:
        return f"{head} {{\n  inputs = {{ {', '.join(inputs)} }}\n}}"
    return f"{head} {{\n  input = {inputs[0]}\n}}"


def _import(start: Start) -> str:
    line = f'import "std:{start.library}" as {start.library}'
    if start.group is None:
        return line
    return f"{line} {{\n  group = {start.group}  # divides the inputs of every layer\n}}"


def _policy(start: Start) -> str:
    head = (
        f"## {start.meaning}\n"
        "# `qcompile plan` shows what becomes of each layer; the last line that matches one wins.\n"
        f"policy main extends {start.library}.{start.policy} {{"
    )
    return "\n".join([head, *(f"  {rule}" for rule in start.rules), "}"])


def _calibrate(data: StartingData | None) -> str:
    reference, note = PLACEHOLDER, REPLACE_IT
    if data is not None:
        reference, note = data.calibration, "# Inputs from which ranges are found."
    return (
        f"{note}\ncalibrate {{\n  data = {quoted_text(reference)}\n"
        "  samples = 256\n  batch = 32\n  seed = 1\n}"
    )


def _evaluate(data: StartingData) -> str:
    return (
        "# What `qcompile eval` measures.\n"
        f"evaluate top1 {{\n  data = {quoted_text(data.test)}\n  batch = 250\n}}"
    )

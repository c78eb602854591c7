"""The text of the recipe that ``init`` writes, with the reason for each of its lines."""

from collections.abc import Sequence
from dataclasses import dataclass

from qcompile.driver.starting_policy import Start
from qcompile.syntax.expression_text import quoted_text


@dataclass(frozen=True, slots=True)
class StartingData:
    """What there is to calibrate with, and what to measure on."""

    note: str
    calibrate: str
    """Settings of the statement."""
    evaluate: str | None = None
    """The statement."""


PLACEHOLDER = "my_data:calibration"
"""A reference that is legal and leads nowhere: only the user knows what leads on."""
UNKNOWN = StartingData(
    note="""\
# To be replaced: a function beside this file that returns a tensor, or a tuple or
# dict of tensors, with a row a sample. `qcompile plan --preview` does without it.""",
    calibrate=f"""\
  data = {quoted_text(PLACEHOLDER)}
  samples = 256
  batch = 32
  seed = 1""",
)
USUAL_LENGTH = 512
"""Tokens of a text."""


def texts(longest: int | None, *, is_measured: bool) -> StartingData:
    """``longest`` is how many tokens the model takes; ``is_measured``: it has perplexity."""
    length = min(longest or USUAL_LENGTH, USUAL_LENGTH)
    return StartingData(
        note="""\
# To be replaced: a text like those that the model is to read, in UTF-8, beside this
# file. `qcompile plan --preview` does without it.""",
        calibrate=f"""\
  data = "text:calibration.txt"
  samples = 128
  batch = 8
  seq_len = {length}
  seed = 1""",
        evaluate=f"""\
evaluate perplexity {{
  data = "text:test.txt"
  seq_len = {length}
  batch = 8
}}"""
        if is_measured
        else None,
    )


def pictures(*, are_classified: bool) -> StartingData:
    """The model says what they go through."""
    return StartingData(
        note="""\
# To be replaced: a folder of pictures like those that the model is to see, beside this
# file. `qcompile plan --preview` does without it.""",
        calibrate="""\
  data = "images:calibration"
  samples = 256
  batch = 32
  seed = 1""",
        evaluate="""\
evaluate top1 {
  data = "images:test"  # a folder for each class
  batch = 32
}"""
        if are_classified
        else None,
    )


def shipped(calibration: str, test: str) -> StartingData:
    """Both come with the model."""
    return StartingData(
        note="# Inputs from which ranges are found.",
        calibrate=f"""\
  data = {quoted_text(calibration)}
  samples = 256
  batch = 32
  seed = 1""",
        evaluate=f"""\
evaluate top1 {{
  data = {quoted_text(test)}
  batch = 250
}}""",
    )


def probe_text(reference: str, inputs: Sequence[str]) -> str:
    """A recipe that names the model and decides nothing."""
    return f"qrecipe 1\n{_model(reference, inputs)}\npolicy main {{}}\n"


def recipe_text(reference: str, inputs: Sequence[str], start: Start, data: StartingData) -> str:
    """The starting recipe, not laid out yet."""
    parts = (
        "qrecipe 1",
        _model(reference, inputs),
        f"# Chosen for what the graph holds: {start.because}.\n{_import(start)}",
        _policy(start),
        f"{data.note}\ncalibrate {{\n{data.calibrate}\n}}",
        "# Fits each layer in closed form; `tune rtn` rounds to nearest, `tune brecq` learns.\n"
        "tune hybrid",
        *([] if data.evaluate is None else [f"# What `qcompile eval` measures.\n{data.evaluate}"]),
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

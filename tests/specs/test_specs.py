"""Every recipe in the documents beside this file gets exactly the diagnostics that it states."""

from pathlib import Path

import pytest

from qcompile.diagnostics.diagnostic import Diagnostic
from tests.specs.front_end import diagnose
from tests.specs.literate import Block, Expected, MalformedDocument, blocks, expected, read
from tests.specs.spec_models import MODELS

DOCUMENTS = sorted(Path(__file__).parent.glob("*.md"))
EXAMPLES = [(path, block) for path in DOCUMENTS for block in read(path)]


def line_of(diagnostic: Diagnostic) -> int:
    """What has no place in the text is expected on its first line."""
    return diagnostic.primary.span.location.line if diagnostic.primary else 1


def fits(claim: Expected, diagnostic: Diagnostic) -> bool:
    return (
        line_of(diagnostic) == claim.line
        and diagnostic.severity.value == claim.severity
        and diagnostic.code.number == claim.code
        and claim.part in diagnostic.message
    )


def differences(block: Block) -> list[str]:
    """What ``block`` states and does not get, and what it gets and does not state."""
    assert block.options.keys() <= {"model", "final_newline"}, block.options
    sites = MODELS[block.options["model"]] if "model" in block.options else None
    text = block.text.rstrip("\n") if block.options.get("final_newline") == "no" else block.text
    unclaimed = diagnose(text, sites)
    problems: list[str] = []
    for claim in expected(block):
        match = next((item for item in unclaimed if fits(claim, item)), None)
        if match is None:
            problems.append(f"line {block.line + claim.line}: missing {claim}")
        else:
            unclaimed.remove(match)
    problems += [
        f"line {block.line + line_of(item)}: unexpected "
        f'{item.severity.value}: [{item.code.number}] "{item.message}"'
        for item in unclaimed
    ]
    return problems


@pytest.mark.parametrize(
    ("path", "block"), EXAMPLES, ids=[f"{path.stem}-{block.line}" for path, block in EXAMPLES]
)
def test_recipe_gets_the_diagnostics_it_states(path: Path, block: Block):
    assert block.language == "qrecipe"
    problems = differences(block)
    assert not problems, "\n".join([f"{path.name}: {block.heading}", *problems])


CLEAN = """\
# A rule
```qrecipe
qrecipe 1
scheme w4 { weight int4 }{comment}
policy main { use w4 for linear }
```
"""

FAULTY = """\
# A rule
```qrecipe
qrecipe 1
scheme w4 { weight int4 symetric }{comment}
```
"""


def only_block(document: str, comment: str) -> Block:
    (block,) = blocks(document.replace("{comment}", comment))
    return block


def test_runner_accepts_what_is_stated():
    assert differences(only_block(CLEAN, "  # a comment")) == []
    assert differences(only_block(FAULTY, '  # error: [QR404] "symetric"')) == []


def test_runner_fails_on_an_expected_diagnostic_that_is_missing():
    claim = 'error: [QR404] "symetric"'
    assert differences(only_block(CLEAN, f"  # {claim}")) == [f"line 4: missing {claim}"]


def test_runner_fails_on_a_diagnostic_that_is_not_expected():
    (problem,) = differences(only_block(FAULTY, ""))
    assert problem.startswith("line 4: unexpected error: [QR404]")


@pytest.mark.parametrize(
    "wrong",
    [
        '  # warning: [QR404] "symetric"',
        '  # error: [QR405] "symetric"',
        '  # error: [QR404] "another message"',
        '\n# error: [QR404] "symetric"\n',
    ],
    ids=["severity", "code", "message", "line"],
)
def test_runner_compares(wrong: str):
    missing, unexpected = differences(only_block(FAULTY, wrong))
    assert "missing" in missing
    assert "unexpected" in unexpected


def test_one_diagnostic_answers_one_claim():
    twice = '  # error: [QR404] "symetric" # error: [QR404] "symetric"'
    (problem,) = differences(only_block(FAULTY, twice))
    assert "missing" in problem


def test_assertion_on_a_line_of_its_own_speaks_of_the_next_line():
    block = only_block("```qrecipe\n{comment}```", '# error: [QR100] "a"\nlet a = 1\n')
    assert [claim.line for claim in expected(block)] == [2]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("```qrecipe\nqrecipe 1\n", "never closed"),
        ("```qrecipe model\n```\n", "name=value"),
        ("```qrecipe\nqrecipe 1  # error: QR404\n```\n", "not an assertion"),
        ('```qrecipe\n# error: [QR404] "x"\n```\n', "no line below"),
    ],
)
def test_document_that_would_test_nothing_is_refused(document: str, reason: str):
    with pytest.raises(MalformedDocument, match=reason):
        [expected(block) for block in blocks(document)]

"""The table of what others ran into names codes that exist, for each complaint once."""

import re

import pytest

from qcompile.diagnostics.codes import Code
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "lints.md").read_text(encoding="utf-8")
LINES = [line for line in PAGE.splitlines() if re.match(r"\| T\d+ \|", line)]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in LINES]
NUMBERS = {code.number for code in Code}


def test_each_complaint_has_one_row():
    assert [row[0] for row in ROWS] == [f"T{number}" for number in range(1, 33)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_row_has_an_answer_and_its_codes_exist(row):
    _, _, codes, beside = row
    named = re.findall(r"QR\d{3}", codes + beside)
    assert set(named) <= NUMBERS
    assert codes or beside
    assert codes == ", ".join(re.findall(r"QR\d{3}", codes))

"""The reference of the language names every word that the compiler knows."""

import re

import pytest

from qcompile.methods.presets import PRESETS
from qcompile.policy.dimension import UNITS
from qcompile.policy.functions import FUNCTIONS, LATER
from qcompile.policy.lower import DEFAULT_TRANSFORMS, OUTPUT
from qcompile.policy.lower_data import CALIBRATE, EVALUATE, METRICS
from qcompile.policy.lower_model import DTYPES
from qcompile.policy.lower_model import TABLE as MODEL
from qcompile.policy.lower_scheme import FORMATS
from qcompile.policy.lower_tune import DROPS, OPTIMIZERS
from qcompile.policy.lower_tune import TABLE as TUNE
from qcompile.policy.modifiers import MODIFIERS, OBSERVERS, SETTABLE
from qcompile.policy.parameters import TYPES
from qcompile.policy.scope import NUMBER_WORDS, SELECTOR_WORDS
from qcompile.syntax.words import keywords
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "language.md").read_text()
NUMBERED = ("int", "uint")
"""Families of formats that the page writes as ``int2..int8``."""


def settings(table):
    return [row.name for row in table if row.shape.name != "LATER"]


def formats():
    for name in FORMATS:
        family = name.rstrip("0123456789")
        yield f"{family}2..{family}8" if family in NUMBERED else name


WORDS = {
    "keyword": [word for words in keywords().values() for word in words],
    "selector": SELECTOR_WORDS,
    "fact": NUMBER_WORDS,
    "function": [name for name in FUNCTIONS if name not in LATER],
    "format": formats(),
    "modifier": MODIFIERS,
    "observer": OBSERVERS,
    "field of set": SETTABLE,
    "setting of model": settings(MODEL),
    "setting of calibrate": settings(CALIBRATE),
    "setting of evaluate": settings(EVALUATE),
    "setting of output": settings(OUTPUT),
    "setting of tune": settings(TUNE),
    "choice of tune": [word for row in TUNE for word in row.choices],
    "drop": DROPS,
    "optimizer": OPTIMIZERS,
    "preset": [item.preset for item in PRESETS],
    "transform": DEFAULT_TRANSFORMS,
    "metric": METRICS,
    "element type": DTYPES,
    "type of a parameter": [name for name, _, _ in TYPES],
    "unit": [unit.name for unit in UNITS],
}
"""What the code knows, by how a person calls it."""


def in_code():
    """Every piece of the page that is set as code, outside fences and inside."""
    fences = PAGE.split("```")
    return "\n".join([*fences[1::2], *("".join(fences[::2]).split("`")[1::2])])


CODE = in_code()


@pytest.mark.parametrize(
    ("sort", "word"), [(sort, word) for sort, words in WORDS.items() for word in words]
)
def test_reference_names(sort, word):
    assert re.search(rf"(?<![\w.]){re.escape(word)}(?!\w)", CODE), f"no {sort} `{word}`"


def test_every_preset_has_a_page():
    for item in PRESETS:
        assert (ROOT / "docs" / "presets" / f"{item.preset}.md").exists()


def test_every_preset_page_is_of_a_preset():
    known = {item.preset for item in PRESETS}
    found = {page.stem for page in (ROOT / "docs" / "presets").glob("*.md")}
    assert found - {"README"} == known

"""The reference of the language names every word that the compiler knows."""

import re

import pytest

from qcompile.methods.presets import LATER_PRESETS, PRESETS
from qcompile.policy.dimension import UNITS
from qcompile.policy.functions import FUNCTIONS
from qcompile.policy.lower_blocks import TABLE as BLOCKS
from qcompile.policy.lower_budget import MAXIMIZE, MINIMIZE
from qcompile.policy.lower_data import CALIBRATE, EVALUATE, METRICS
from qcompile.policy.lower_model import DTYPES
from qcompile.policy.lower_model import TABLE as MODEL
from qcompile.policy.lower_output import OUTPUT, TARGET
from qcompile.policy.lower_policy import OF_A_SITE
from qcompile.policy.lower_prepare import TRANSFORMS
from qcompile.policy.lower_tune import AUGMENTS, DROPS, LOSSES, OPTIMIZERS, SELECTS
from qcompile.policy.lower_tune import TABLE as TUNE
from qcompile.policy.modifiers import MODIFIERS, OBSERVERS, SETTABLE
from qcompile.policy.number_format import FAMILIES, FORMAT_NAMES
from qcompile.policy.parameters import TYPES
from qcompile.policy.scope import NUMBER_WORDS, SELECTOR_WORDS
from qcompile.syntax.words import keywords
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "language.md").read_text()
TABLES = {
    "model": MODEL,
    "target": TARGET,
    "blocks": BLOCKS,
    "calibrate": CALIBRATE,
    "evaluate": EVALUATE,
    "output": OUTPUT,
    "tune": TUNE,
    **{f"prepare {name}": table for name, table in TRANSFORMS},
}
FORMS = {
    "loss": LOSSES,
    "drop": DROPS,
    "augment": AUGMENTS,
    "select": SELECTS,
    "optimizer": OPTIMIZERS,
}


def formats():
    """As the page writes them: ``int2..int8`` for a family."""
    for name in FORMAT_NAMES:
        family = name.rstrip("0123456789")
        yield f"{family}2..{family}8" if family in FAMILIES else name


WORDS = {
    "keyword": [word for words in keywords().values() for word in words],
    "selector": SELECTOR_WORDS,
    "fact or figure": NUMBER_WORDS,
    "function": FUNCTIONS,
    "format": dict.fromkeys(formats()),
    "modifier": MODIFIERS,
    "observer": OBSERVERS,
    "field of set": (*SETTABLE, *OF_A_SITE),
    "preset": [*(item.preset for item in PRESETS), *LATER_PRESETS],
    "transform": [name for name, _ in TRANSFORMS],
    "objective": (*MINIMIZE, *MAXIMIZE),
    "metric": METRICS,
    "element type": DTYPES,
    "type of a parameter": [name for name, _, _ in TYPES],
    "unit": [unit.name for unit in UNITS],
    **{f"setting of {name}": [row.name for row in table] for name, table in TABLES.items()},
    **{
        f"choice of {name} {row.name}": (*row.choices, *row.later)
        for name, table in TABLES.items()
        for row in table
    },
    **{f"choice of tune {name}": [form.word for form in forms] for name, forms in FORMS.items()},
    "argument of an optimizer": {a.name for form in OPTIMIZERS for a in form.arguments},
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

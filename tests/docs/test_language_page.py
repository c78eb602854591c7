"""The reference of the language names every word that the compiler knows."""

import re

import pytest

from qcompile.data.reference import FORMS as REFERENCES
from qcompile.methods.presets import PRESETS
from qcompile.policy.dimension import UNITS
from qcompile.policy.functions import FUNCTIONS
from qcompile.policy.lower_blocks import TABLE as BLOCKS
from qcompile.policy.lower_budget import MAXIMIZE, MINIMIZE
from qcompile.policy.lower_data import CALIBRATE, EVALUATE, METRICS
from qcompile.policy.lower_model import DTYPES
from qcompile.policy.lower_model import TABLE as MODEL
from qcompile.policy.lower_output import LATER_TARGETS, OUTPUT, TARGET
from qcompile.policy.lower_policy import LATER_SETTABLE, OF_A_SITE
from qcompile.policy.lower_prepare import DEFAULTS, FOLD, TRANSFORMS
from qcompile.policy.lower_tune import AUGMENTS, DROPS, LOSSES, OPTIMIZERS, SELECTS
from qcompile.policy.lower_tune import TABLE as TUNE
from qcompile.policy.modifiers import MODIFIERS, OBSERVERS, SETTABLE
from qcompile.policy.number_format import FAMILIES, FORMAT_NAMES
from qcompile.policy.parameters import TYPES
from qcompile.policy.scope import NUMBER_WORDS, SELECTOR_WORDS
from qcompile.syntax.words import keywords
from qcompile.targets.names import BUILTIN
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
    "field of set": (*SETTABLE, *OF_A_SITE, *LATER_SETTABLE),
    "preset": [item.preset for item in PRESETS],
    "target": (*BUILTIN, *LATER_TARGETS),
    "reference": [form.prefix for form in REFERENCES],
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
    "argument of an optimizer": sorted({a.name for form in OPTIMIZERS for a in form.arguments}),
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


def section(heading):
    parts = re.split(r"^#{2,3} (.+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[heading]


def axis_choices():
    """Values of the axes of ``tune``: the engine executes them all."""
    rows = {row.name: (*row.choices, *row.later) for row in TUNE}
    forms = {name: [form.word for form in known] for name, known in FORMS.items()}
    for setting, values in (rows | forms).items():
        yield from (("tune", setting, value, True) for value in values)
    for setting in ("samples", "patience"):
        yield "tune", setting, setting, True


def choices():
    yield from axis_choices()
    yield from (("tune", None, item.preset, True) for item in PRESETS)
    yield from (("target", None, name, True) for name in BUILTIN)
    yield from (("target", None, name, False) for name in LATER_TARGETS)
    for heading in ("model", "target", "calibrate", "evaluate", "output"):
        for row in TABLES[heading]:
            yield heading, row.name, row.name, row.carried_out
            yield from ((heading, row.name, f'"{word}"', True) for word in row.choices)
            yield from ((heading, row.name, f'"{word}"', False) for word in row.later)
    yield from (("prepare", None, name, name in {FOLD, *DEFAULTS}) for name, _ in TRANSFORMS)
    yield from (("Fields of set", None, name, True) for name in SETTABLE)
    yield from (("Fields of set", None, name, False) for name in LATER_SETTABLE)


@pytest.mark.parametrize(("heading", "setting", "word", "executed"), [*choices()])
def test_what_is_not_executed_is_set_in_italics(heading, setting, word, executed):
    lines = section(heading).splitlines()
    rows = [line for line in lines if re.match(rf"\| \*?`{setting}`", line)]
    text = "\n".join(rows or lines)
    arguments = "" if executed else r"(\([^`]*\))?"
    assert bool(re.search(rf"\*`{re.escape(word)}{arguments}`\*", text)) is not executed, text


def test_every_preset_has_a_page():
    for item in PRESETS:
        assert (ROOT / "docs" / "presets" / f"{item.preset}.md").exists()


def test_every_preset_page_is_of_a_preset():
    known = {item.preset for item in PRESETS}
    found = {page.stem for page in (ROOT / "docs" / "presets").glob("*.md")}
    assert found - {"README"} == known

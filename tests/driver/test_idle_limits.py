"""A limit on the size that the float model keeps refuses nothing, and is said to."""

import pytest

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.source import Source
from qcompile.driver.bind import bind
from qcompile.driver.front import check_source
from tests.analysis.findings import IMAGE
from tests.tiny_models import ResidualNet


def idle(limit):
    """Texts that QR602 points at; the model has 5,492 bytes in float, 1,114 as planned."""
    text = "qrecipe 1\nscheme w4 { weight int4 }\npolicy main { use w4 for conv }\n"
    recipe = check_source(Source("recipe", f"{text}budget {{ {limit} }}\n")).recipe
    found = bind(recipe, ResidualNet(), (IMAGE,)).diagnostics
    return [item.primary.span.text for item in found if item.code is Code.IDLE_LIMIT]


@pytest.mark.parametrize("limit", ["size <= 1GB", "size <= 5.492kB", "size <= 5kB or size <= 6kB"])
def test_a_limit_that_float_keeps_is_said(limit):
    assert idle(limit) == [limit]


@pytest.mark.parametrize("limit", ["size <= 5.491kB", "size <= 2kB", "avg_bits(weight) <= 32"])
def test_a_limit_that_float_breaks_or_that_is_no_size_is_not(limit):
    assert idle(limit) == []

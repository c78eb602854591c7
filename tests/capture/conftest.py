from functools import cache

import pytest

from qcompile.capture.trace import trace
from tests.capture.traced_models import CASES


@cache
def capture(name):
    case = CASES[name]
    model = case.model()
    captured = trace(model, (), {**case.batch(2, 7), **case.options})
    return case, model, captured


@pytest.fixture(scope="session")
def captured():
    """``captured(name)``: the case, its model and what was captured of it; once a session."""
    return capture

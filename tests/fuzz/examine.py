"""What must hold for every text: the front end ends soon, in order, and inside the text."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.findings import Findings
from qcompile.diagnostics.github import render_github
from qcompile.diagnostics.render import render_json, render_text
from qcompile.diagnostics.sarif import render_sarif
from qcompile.diagnostics.source import Source
from qcompile.driver.fix import fix
from qcompile.driver.front import Checked, check_source
from qcompile.policy.assertion import Measured, check_assertions
from qcompile.policy.blocks import named_blocks
from qcompile.policy.recipe import Recipe
from qcompile.policy.resolve import resolve
from qcompile.syntax.format import format_text
from tests.specs.spec_models import MODELS

SECONDS = 1.0
MAX_REPORTS = 2 * 20 + 20


class TooSlow(Exception):
    pass


class Violated(Exception):
    """A promise that was broken without an exception."""


def examine(text: str, seconds: float = SECONDS) -> None:
    """Raise whatever goes wrong."""
    with within(seconds):
        source = Source("fuzz.qrecipe", text)
        checked = check_source(source)
        found = [*checked.diagnostics, *_with_models(checked)]
        for item in found:
            _inside(item, source)
        _rendered(found)
        _formatted(source, checked)
        fix(source)


def _with_models(checked: Checked) -> Iterator[Diagnostic]:
    if checked.recipe is None:
        if not any(item.is_error for item in checked.diagnostics):
            raise Violated("no recipe, and no error that says why")
        return
    for sites in MODELS.values():
        yield from _resolved(checked.recipe, sites)


def _resolved(recipe: Recipe, sites) -> Iterator[Diagnostic]:
    resolution, found = resolve(recipe, sites)
    yield from found
    blocks, found = named_blocks(recipe, sites)
    yield from found
    measured = Measured(10**6, tuple(block.sites for block in blocks))
    yield from check_assertions(recipe.assertions, sites, resolution, measured)


def _inside(item: Diagnostic, source: Source) -> None:
    labels = [label for label in (item.primary, *item.secondary) if label]
    for span in [label.span for label in labels] + [one.span for one in item.fixes]:
        if span.source == source and not 0 <= span.start <= span.end <= len(source.text):
            raise Violated(f"{item.code.number}: span {span.start}..{span.end} is outside")
    if not item.message or item.message.endswith(".") or "\n" in item.message:
        raise Violated(f"{item.code.number}: message {item.message!r}")


def _rendered(found: list[Diagnostic]) -> None:
    findings = [Findings("fuzz.qrecipe", tuple(found))]
    for text in (render_text(found), render_github(findings)):
        if any(ord(char) < 32 and char != "\n" for char in text):
            raise Violated("a control character reaches the terminal")
    text = render_json(found) + render_sarif(findings, "0")
    text.encode(errors="surrogatepass")


def _formatted(source: Source, checked: Checked) -> None:
    once = format_text(source)
    if isinstance(once, str) and format_text(Source(source.name, once)) != once:
        raise Violated("formatting twice is not formatting once")


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Interrupt what takes more processor time, where the system can: other work does not count."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(_signal: int, frame: FrameType | None) -> None:
        place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else "?"
        raise TooSlow(f"more than {seconds} s, at {place}")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)

"""``text:FILE``: a text as windows of token ids, by the tokenizer of a ``hf:`` model."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch

from qcompile.data.project import Project
from qcompile.data.purpose import DATA, MODEL
from qcompile.data.reading import Reading
from qcompile.data.reference import HuggingFaceReference, parse_reference
from qcompile.data.source_kinds import MemorySource, unusable
from qcompile.data.user_code import Raised, raised, run_user_code
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic

TOKENIZER = "tokenizer.json"
USUAL_LENGTH = 512
"""Ids of a window where the recipe does not say ``seq_len``."""
FIRST = 1_000
"""Characters of a text that show what the tokenizer puts around it."""
IDS, LABELS = "input_ids", "labels"


class Encoding(Protocol):
    @property
    def ids(self) -> list[int]: ...


class Tokenizer(Protocol):
    """What we use of a ``tokenizers.Tokenizer``."""

    def encode(self, sequence: str, *, add_special_tokens: bool) -> Encoding: ...

    def no_truncation(self) -> None: ...

    def no_padding(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Frame:
    """Special tokens that the tokenizer puts around a text."""

    before: list[int]
    after: list[int]

    def around(self, ids: Sequence[int]) -> list[int]:
        return [*self.before, *ids, *self.after]


def open_text(
    reference: str, path: Path, reading: Reading, project: Project
) -> MemorySource | Diagnostic:
    """Windows side by side, without the rest of the text that fills none.

    Each has the special tokens that the tokenizer puts around a text. ``labels`` are the ids
    themselves, of which ``perplexity`` asks each by those before it.
    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        return unusable(reference, f"cannot be read: {(error.strerror or str(error)).lower()}")
    except UnicodeDecodeError as error:
        return unusable(reference, f"is not UTF-8: byte {error.start}", "save it as UTF-8")
    tokenizer = _tokenizer(reference, reading.model, project)
    if isinstance(tokenizer, Diagnostic):
        return tokenizer
    encoded = run_user_code(lambda: (_frame(tokenizer, text), _ids(tokenizer, text)), project)
    if isinstance(encoded, Raised):
        return raised(reference, encoded, DATA)
    frame, ids = encoded
    length = reading.length or USUAL_LENGTH
    content = length - len(frame.around(()))
    if content < 1:
        return no_room(reference, length)
    starts = range(0, len(ids) - content + 1, content)
    if not starts:
        return too_short(reference, len(ids), content)
    windows = torch.tensor([frame.around(ids[start : start + content]) for start in starts])
    return MemorySource({IDS: windows, LABELS: windows}, LABELS)


def _tokenizer(reference: str, model: str | None, project: Project) -> Tokenizer | Diagnostic:
    folder = None if model is None else parse_reference(model, MODEL)
    if not isinstance(folder, HuggingFaceReference):
        return no_tokenizer(reference, "the model is no `hf:` folder that has one")
    package = run_user_code(lambda: importlib.import_module("tokenizers"), project)
    if isinstance(package, Raised):
        return no_package(reference)
    file = project.directory / folder.directory / TOKENIZER
    if not file.is_file():
        return no_tokenizer(reference, f"`{folder.directory}` has no `{TOKENIZER}`")
    made = run_user_code(lambda: package.Tokenizer.from_file(str(file)), project)
    if isinstance(made, Raised):
        return raised(f"{folder.directory}/{TOKENIZER}", made, DATA)
    tokenizer = cast("Tokenizer", made)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def _frame(tokenizer: Tokenizer, text: str) -> _Frame:
    """What stands before and after the first tokens of the text."""
    start = text.lstrip()[:FIRST]
    plain, framed = _ids(tokenizer, start), tokenizer.encode(start, add_special_tokens=True).ids
    before = next(
        place
        for place in range(len(framed) - len(plain) + 1)
        if framed[place : place + len(plain)] == plain
    )
    return _Frame(framed[:before], framed[before + len(plain) :])


def no_tokenizer(reference: str, why: str) -> Diagnostic:
    """QR710: nothing says how the text becomes token ids."""
    return unusable(
        reference,
        f"needs a tokenizer, and {why}",
        f"save one to the model's folder (`{TOKENIZER}`), or write a function that returns token"
        " ids, and name it `module:function`",
    )


def no_package(reference: str) -> Diagnostic:
    """QR710: the extra is not installed."""
    return unusable(
        reference, "needs the package `tokenizers`", "install it: `pip install 'qcompile[hf]'`"
    )


def no_room(reference: str, length: int) -> Diagnostic:
    """QR710: special tokens alone fill a sample."""
    return unusable(
        reference,
        f"has no room in samples of {length} ids: the tokenizer adds as many of its own",
        "raise `seq_len`",
    )


def too_short(reference: str, count: int, wanted: int) -> Diagnostic:
    """QR711: not one whole sample."""
    return Diagnostic(
        Code.EMPTY_DATA,
        f"`{reference}` has {count} tokens, and a sample takes {wanted}",
        subject=reference,
        help="lower `seq_len`, or name a longer text",
    )

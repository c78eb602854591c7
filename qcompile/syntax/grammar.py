"""The parser of the language, built once for each process."""

import os
import stat
import sys
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import lark
from filelock import FileLock
from platformdirs import user_cache_path

from qcompile.syntax.newlines import Newlines

_FILE = "qrecipe.lark"
_LOCK_SECONDS = 5


@cache
def parser() -> lark.Lark:
    grammar = _grammar_text()
    path = _cache_file(grammar)
    if path is None:
        return _build(grammar, None)
    try:
        # Lark writes its cache in place: a lock keeps two first runs from mixing their bytes
        with FileLock(f"{path}.lock", timeout=_LOCK_SECONDS):
            return _build(grammar, path)
    except OSError:
        return _build(grammar, None)


def _build(grammar: str, cache_file: Path | None) -> lark.Lark:
    return lark.Lark(
        grammar,
        parser="lalr",
        lexer="contextual",
        postlex=Newlines(),
        propagate_positions=True,
        maybe_placeholders=True,
        cache=False if cache_file is None else str(cache_file),
    )


def _grammar_text() -> str:
    packaged = files("qcompile") / "_grammars" / _FILE
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    in_checkout = Path(__file__).parents[2] / "grammars" / _FILE
    return in_checkout.read_text(encoding="utf-8")


def _cache_file(grammar: str) -> Path | None:
    """Where Lark keeps its tables; None where they could not be trusted.

    Lark unpickles the file, so nobody but the user may be able to write beside it.
    """
    folder = user_cache_path("qcompile") / "grammar"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.lstat()
    except OSError:
        return None
    if not _is_private(state):
        return None
    digest = sha256(grammar.encode()).hexdigest()[:16]
    return folder / f"{digest}-lark{lark.__version__}-{sys.implementation.cache_tag}"


def _is_private(state: os.stat_result) -> bool:
    if not stat.S_ISDIR(state.st_mode):
        return False
    if sys.platform == "win32":
        return True  # the cache lies in the user's profile, which Windows keeps private
    return state.st_uid == os.geteuid() and not state.st_mode & 0o022

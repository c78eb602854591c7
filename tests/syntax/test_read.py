import os
from pathlib import Path

import pytest

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Source
from qcompile.syntax.limits import MAX_FILE_BYTES
from qcompile.syntax.parse import parse
from qcompile.syntax.read import decode, read


def only(result: Source | list[Diagnostic]) -> Diagnostic:
    assert isinstance(result, list)
    (diagnostic,) = result
    return diagnostic


def test_text_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.qrecipe"
    path.write_bytes("qrecipe 1\r\n# é\n".encode())
    assert read(path) == Source(str(path), "qrecipe 1\r\n# é\n")
    assert read(path, "shown") == Source("shown", "qrecipe 1\r\n# é\n")


def test_byte_order_mark_is_dropped() -> None:
    source = decode(b"\xef\xbb\xbfqrecipe 1\n", "x")
    assert isinstance(source, Source)
    assert source.text == "qrecipe 1\n"
    assert parse(source)[1] == []


def test_missing_file_says_so(tmp_path: Path) -> None:
    found = only(read(tmp_path / "none.qrecipe"))
    assert (found.code.number, found.message) == ("QR114", "there is no such file")
    assert found.subject.endswith("none.qrecipe")


def test_directory_is_refused(tmp_path: Path) -> None:
    found = only(read(tmp_path))
    assert found.code.number == "QR114"
    assert "a directory" in found.message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe" in only(read(tmp_path / "pipe")).message


def test_endless_device_is_refused() -> None:
    if os.path.exists("/dev/zero"):
        assert only(read(Path("/dev/zero"))).code.number == "QR114"


def test_path_with_a_nul_character_is_a_diagnostic() -> None:
    assert only(read(Path("a\x00b"))).code.number == "QR114"


def test_endless_link_is_a_diagnostic(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    found = only(read(tmp_path / "loop"))
    assert found.code.number == "QR114"
    assert found.notes


@pytest.mark.parametrize(
    ("data", "message", "note"),
    [
        (b"qrecipe 1\n\xff", "the file is not UTF-8 text", "offset 10, on line 2"),
        (b"\xed\xa0\x80", "the file is not UTF-8 text", "offset 0, on line 1"),
        ("qrecipe 1".encode("utf-16"), "the file is not UTF-8 text", "byte 0xff"),
        (b"qrecipe\x001", "the file is binary, not text", "offset 7"),
    ],
)
def test_what_is_not_text_is_refused_with_its_place(data: bytes, message: str, note: str) -> None:
    found = only(decode(data, "x"))
    assert (found.code.number, found.message) == ("QR114", message)
    assert note in found.notes[0]


def test_file_over_the_limit_is_refused_and_one_at_the_limit_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.qrecipe"
    path.write_bytes(b"#" * MAX_FILE_BYTES)
    assert isinstance(read(path), Source)
    path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    assert only(read(path)).code.number == "QR120"
    assert only(decode(b"#" * (MAX_FILE_BYTES + 1), "x")).code.number == "QR120"

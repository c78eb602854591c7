"""What the pages show of a console is what the commands print."""

import pytest

from tests.docs.pages import fenced, name_of, pages
from tests.docs.sessions import PROMPT, has_sessions, play, without_varying


@pytest.mark.parametrize("page", [page for page in pages() if has_sessions(page)], ids=name_of)
def test_console_shows_what_the_commands_print(page, tmp_path):
    for done in play(page, tmp_path, slow=False):
        assert without_varying(done.text) == without_varying(done.block.text), done.block.line
        assert done.exit_code == done.expected_exit, done.text


def test_every_session_begins_with_a_command():
    for page, block in fenced("console"):
        assert block.text.startswith(PROMPT), f"{name_of(page)}:{block.line}"


def test_only_what_depends_on_the_machine_may_differ():
    line = "build   1.09 MB -> 142 kB of tensors, 0:05, identity 0123456789ab"
    assert without_varying(line) == (
        "build   1.09 MB -> 142 kB of tensors, <clock>, identity <identity>"
    )
    assert without_varying("top1 0.9260   float 0.9350") == "top1 <measured>   float <measured>"
    assert without_varying("int4 21 layers 142 kB") == "int4 21 layers 142 kB"

"""What C prints meanwhile is lost; what comes before and after is not."""

import subprocess
import sys

PROGRAM = """
import ctypes
from qcompile.compat.quiet import quiet_output
c = ctypes.CDLL(None)
c.printf(b"before\\n")
with quiet_output():
    c.printf(b"meanwhile\\n")
c.printf(b"after\\n")
c.fflush(None)
print("python")
"""


def output(program, **options):
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, **options
    )
    return done.stdout


def test_only_what_is_printed_meanwhile_is_lost():
    assert output(PROGRAM).split() == ["before", "after", "python"]


def test_without_standard_output_there_is_nothing_to_do():
    closed = "import os; os.close(1)\nfrom qcompile.compat.quiet import quiet_output\n"
    assert output(closed + "with quiet_output():\n    pass\n") == ""


def test_it_is_put_back_after_an_error():
    program = (
        "from qcompile.compat.quiet import quiet_output\n"
        "try:\n    with quiet_output():\n        raise ValueError\n"
        "except ValueError:\n    print('back')\n"
    )
    assert output(program).split() == ["back"]

"""A cell is measured in a process of its own, so that time and memory are the cell's alone.

The request goes in by standard input, the answer comes out by standard output, both as JSON; what
goes wrong is on standard error. Loads no torch.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from tests.bench.cells import Document

ROOT = Path(__file__).parents[2]


def answer(
    module: str,
    request: Document,
    *,
    limit: float | None = None,
    environment: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> Document:
    """Of ``python -m tests.bench.MODULE``, in ``limit`` seconds; ``quiet`` takes its warnings away.

    Raises ``TimeoutExpired`` and ``CalledProcessError`` of ``subprocess``.
    """
    done = subprocess.run(
        [sys.executable, *(("-W", "ignore") if quiet else ()), "-m", f"tests.bench.{module}"],
        input=json.dumps(request),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=limit,
        check=True,
    )
    return cast("Document", json.loads(done.stdout)) if done.stdout else {}

"""A recipe that is made by a benchmark, run on ResNet-20. Loads no torch."""

import re
from typing import cast

from tests.bench.accuracy import BENCH_SOURCES, BUILD, COMPILER_SOURCES, Bench
from tests.bench.cells import Document, code_of_process
from tests.bench.matrix import RECIPES, RESNET20, ROOT
from tests.bench.request import QuantizedRequest


def text_result(
    kind: str, label: str, text: str, bench: Bench, of_float: Document
) -> Document | None:
    """``kind`` names the benchmark; ``None`` when the time is up, or when it failed."""
    cell = {
        "kind": kind,
        "recipe": text,
        "images": RESNET20.test_images,
        "code": code_of_process(ROOT, (*BENCH_SOURCES, *COMPILER_SOURCES, "qcompile/methods")),
    }
    request = QuantizedRequest(
        recipe=str(RECIPES / f"{kind}.qrecipe"),
        text=text,
        test_data=RESNET20.test_data,
        test_images=RESNET20.test_images,
        plain_images=0,
        threads=bench.threads,
        output=str(BUILD / "artifacts" / re.sub(r"\W+", "-", label)),
        float_logits=cast("str", of_float["logits"]),
    )
    return bench.result(cell, request, label)

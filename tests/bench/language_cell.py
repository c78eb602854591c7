"""One preset on the language model, in a process of its own: request in, figures out, as JSON."""

import json
import math
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

import qcompile
from qcompile.data.reading import Reading
from qcompile.data.sources import open_data
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from tests.bench.smollm2 import MODEL, TEST, make_folder


@dataclass(frozen=True, slots=True)
class LanguageRequest:
    folder: str
    name: str
    text: str
    """The recipe."""
    length: int
    windows: int
    """Of the test, of ``length`` tokens."""
    threads: int


def main() -> None:
    request = LanguageRequest(**json.load(sys.stdin))
    torch.set_num_threads(request.threads)
    json.dump({**measured(request), "torch": torch.__version__}, sys.stdout)


def measured(request: LanguageRequest) -> dict[str, object]:
    folder = Path(request.folder)
    make_folder(folder)
    recipe = folder / f"{request.name}.qrecipe"
    recipe.write_text(request.text)
    output = folder / request.name
    cpu = time.process_time()
    done = run_subject(recipe, output, RunOptions(work=folder / "state", replace=True))
    cpu = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return {
        **compared(qcompile.load(output), folder, request),
        "bytes": done.plan.core.bytes_after,
        "bytes_before": done.plan.core.bytes_before,
        "cpu_seconds": cpu,
        "peak_bytes": peak,
    }


@torch.no_grad()
def compared(quantized: nn.Module, folder: Path, request: LanguageRequest) -> dict[str, float]:
    """Perplexity of both; divergence and agreement of the next token, a mean over all."""
    reading = Reading(f"hf:{MODEL}", request.length)
    source, problems = open_data(f"text:{TEST}", folder, reading=reading)
    assert source is not None, problems
    plain = LlamaForCausalLM.from_pretrained(folder / MODEL).eval()
    sums = {"loss": 0.0, "float_loss": 0.0, "kl": 0.0, "agreement": 0.0}
    count = 0
    for number in range(request.windows):
        batch = cast("dict[str, Tensor]", source.read([number]))
        ids, following = batch["input_ids"], batch["input_ids"][0, 1:]
        ours = F.log_softmax(quantized(ids)["logits"][0, :-1].double(), -1)
        theirs = F.log_softmax(plain(ids, use_cache=False).logits[0, :-1].double(), -1)
        sums["loss"] += float(F.nll_loss(ours, following, reduction="sum"))
        sums["float_loss"] += float(F.nll_loss(theirs, following, reduction="sum"))
        sums["kl"] += float(F.kl_div(ours, theirs, reduction="sum", log_target=True))
        sums["agreement"] += float((ours.argmax(-1) == theirs.argmax(-1)).sum())
        count += len(following)
    means = {name: total / count for name, total in sums.items()}
    return {
        "perplexity": math.exp(means["loss"]),
        "float_perplexity": math.exp(means["float_loss"]),
        "kl": means["kl"],
        "agreement": means["agreement"],
        "tokens": count,
    }


if __name__ == "__main__":
    main()

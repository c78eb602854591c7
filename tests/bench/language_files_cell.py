"""One GGUF file of SmolLM2 read by llama.cpp, in a process of its own: request in, figures out."""

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

import qcompile
from qcompile.data.reading import Reading
from qcompile.data.sources import open_data
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from tests.bench.smollm2 import CALIBRATION, LAYER, MODEL, TEST, make_folder, original

READ = 20_000
"""Characters of the test that llama.cpp splits into tokens, to compare."""


@dataclass(frozen=True, slots=True)
class FilesRequest:
    folder: str
    name: str
    text: str
    """The recipe; empty for a file that llama.cpp rounds itself, or that is as it came."""
    rounding: str
    """``none``, ``plain`` or ``importance``."""
    samples: int
    calibrated_length: int
    length: int
    windows: int
    threads: int


def main() -> None:
    request = FilesRequest(**json.load(sys.stdin))
    torch.set_num_threads(request.threads)
    json.dump({**measured(request), "torch": torch.__version__}, sys.stdout)


def measured(request: FilesRequest) -> dict[str, object]:
    folder = Path(request.folder)
    make_folder(folder)
    artifact = folder / request.name
    file = folder / f"{request.name}.gguf"
    if request.text:
        recipe = folder / f"{request.name}.qrecipe"
        recipe.write_text(request.text)
        run_subject(recipe, artifact, RunOptions(work=folder / "state", replace=True))
        qcompile.export(artifact, "gguf", file, replace=True)
    elif request.rounding == "none":
        file = original()
    else:
        _round_by_llama_cpp(request, file)
    ours = qcompile.load(artifact) if request.text else None
    return {**compared(request, folder, file, ours), "bytes": file.stat().st_size}


def compared(
    request: FilesRequest, folder: Path, file: Path, ours: nn.Module | None
) -> dict[str, float]:
    """What llama.cpp makes of the file, beside the float model and beside our simulation."""
    text = (folder / TEST).read_text()[:READ]
    windows = _windows(folder, TEST, request.length, range(request.windows))
    plain = LlamaForCausalLM.from_pretrained(folder / MODEL).eval()
    sums = dict.fromkeys(("loss", "kl", "agreement", "ours_loss", "ours_kl"), 0.0)
    count = 0
    with TemporaryDirectory(dir=folder) as scratch, torch.no_grad():
        output = str(Path(scratch, "scores"))
        ids = [window[0].tolist() for window in windows]
        asked = {"file": str(file), "text": text, "windows": ids, "output": output}
        tokens = llama_cpp("scores", asked | {"threads": request.threads})["tokens"]
        for number, window in enumerate(windows):
            following = window[0, 1:]
            there = torch.from_numpy(np.load(f"{output}-{number}.npy"))
            theirs = _chances(there)
            of_float = _chances(plain(window, use_cache=False).logits[0])
            sums["loss"] += float(F.nll_loss(theirs, following, reduction="sum"))
            sums["kl"] += _divergence(theirs, of_float)
            sums["agreement"] += float((theirs.argmax(-1) == of_float.argmax(-1)).sum())
            if ours is not None:
                simulated = _chances(ours(window)["logits"][0])
                sums["ours_loss"] += float(F.nll_loss(simulated, following, reduction="sum"))
                sums["ours_kl"] += _divergence(theirs, simulated)
            count += len(following)
    means = {name: total / count for name, total in sums.items()}
    found = {
        "perplexity": math.exp(means["loss"]),
        "kl": means["kl"],
        "agreement": means["agreement"],
        "same_tokens": float(tokens == _tokens(folder, text)),
    }
    if ours is not None:
        found |= {"simulated": math.exp(means["ours_loss"]), "kl_to_simulated": means["ours_kl"]}
    return found


def _round_by_llama_cpp(request: FilesRequest, file: Path) -> None:
    importance = None
    if request.rounding == "importance":
        importance = file.with_suffix(".npz")
        np.savez(importance, **_mean_squares(request))
    asked = {"file": str(original()), "output": str(file)}
    llama_cpp("rounded", asked | {"importance": None if importance is None else str(importance)})


def _mean_squares(request: FilesRequest) -> dict[str, np.ndarray]:
    """Of what each layer reads, on the windows that our recipes are calibrated on or as many."""
    folder = Path(request.folder)
    model = LlamaForCausalLM.from_pretrained(folder / MODEL).eval()
    sums: dict[str, Tensor] = {}
    for name, module in _layers(model).items():

        def add(
            _: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor, name: str = name
        ) -> None:
            found = inputs[0].double().square().sum((0, 1))
            sums[name] = sums.get(name, torch.zeros_like(found)) + found

        module.register_forward_hook(add)
    with torch.no_grad():
        for window in _windows(
            folder, CALIBRATION, request.calibrated_length, range(request.samples)
        ):
            model(window, use_cache=False)
    count = request.samples * request.calibrated_length
    return {name: (total / count).numpy() for name, total in sums.items()}


def _layers(model: LlamaForCausalLM) -> dict[str, nn.Module]:
    """Each layer, by what GGUF calls its weight."""
    linear = {ours: theirs for theirs, ours in LAYER.items() if ours.endswith("_proj")}
    return {
        f"blk.{number}.{theirs}.weight": layer.get_submodule(ours)
        for number, layer in enumerate(model.model.layers)
        for ours, theirs in linear.items()
    }


def _windows(folder: Path, text: str, length: int, places: Sequence[int]) -> list[Tensor]:
    reading = Reading(f"hf:{MODEL}", length)
    source, problems = open_data(f"text:{text}", folder, reading=reading)
    assert source is not None, problems
    return [cast("dict[str, Tensor]", source.read([place]))["input_ids"] for place in places]


def _tokens(folder: Path, text: str) -> list[int]:
    read = Tokenizer.from_file(str(folder / MODEL / "tokenizer.json"))
    return read.encode(text, add_special_tokens=False).ids


def _chances(scores: Tensor) -> Tensor:
    return F.log_softmax(scores[:-1].double(), -1)


def _divergence(found: Tensor, expected: Tensor) -> float:
    return float(F.kl_div(found, expected, reduction="sum", log_target=True))


def llama_cpp(command: str, request: Mapping[str, object]) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.llama_cpp", command],
        input=json.dumps(dict(request)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()

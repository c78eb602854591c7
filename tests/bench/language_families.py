"""``make bench-language``, its third table: a small model of each family, run by llama.cpp.

Random models with 8-bit weights (Q8_0), gains that are not 1 and biases that are not 0. Prints, for
each, the difference of the next tokens' log-probabilities from `simulate`, relative to their
standard deviation; beside it, for a measure, what one more token in front of the text makes of
them; and whether llama.cpp makes the same tokens of a text.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

import qcompile
from tests.bench.language_files_cell import llama_cpp
from tests.interop.language_models import MODELS, TEXT, artifact, exported, pieces, save

SCHEME = "weight int8 symmetric per_group(32); act float"
EVERYTHING = "use q for linear or embedding"
LENGTH = 96
ONE_OF_PIECES = "llama, pieces"
REFUSED = "windowed"


def main() -> None:
    print("| model | difference | with one more token in front | same tokens of a text |")
    print("|---|--:|--:|---|")
    for name in (*MODELS, ONE_OF_PIECES):
        if name != REFUSED:
            with TemporaryDirectory() as folder:
                print(row(Path(folder), name))


def row(folder: Path, label: str) -> str:
    name = label.partition(",")[0]
    words = pieces() if label == ONE_OF_PIECES else None
    save(folder, name, words)
    out = artifact(folder, name, SCHEME, EVERYTHING)
    said = exported(out, "gguf", folder / "m.gguf")
    assert "llama.cpp runs it" in said, said
    text = TEXT.read_text()
    ids = torch.randint(0, 300, (1, LENGTH + 1), generator=torch.Generator().manual_seed(3))
    windows = [ids[0, 1:].tolist(), ids[0].tolist()]
    output = str(folder / "scores")
    asked = {"file": str(folder / "m.gguf"), "text": text, "windows": windows, "output": output}
    tokens = llama_cpp("scores", asked | {"threads": 1})["tokens"]
    with torch.no_grad():
        ours = F.log_softmax(qcompile.load(out)(ids[:, 1:])["logits"][0].double(), -1)
    here, longer = (F.log_softmax(read(f"{output}-{n}.npy").double(), -1) for n in range(2))
    differences = (relative(here, ours), relative(longer[1:], ours))
    file = Tokenizer.from_file(str(folder / name / "tokenizer.json"))
    same = tokens == file.encode(text, add_special_tokens=False).ids
    shown = " | ".join(f"{one:.3f}" for one in differences)
    return f"| {label} | {shown} | {'yes' if same else 'no'} |"


def read(file: str) -> Tensor:
    return torch.from_numpy(np.load(file))


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).square().mean().sqrt() / expected.std())


if __name__ == "__main__":
    main()

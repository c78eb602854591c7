"""Read one exported model with a program of others, and compare. Run as a script: no qcompile here.

``read_export.py FORMAT FILE GIVEN``: ``GIVEN`` has inputs ``x`` and outputs ``y``, or the weights
by name. Prints JSON: the root mean square of the difference over that of the reference, the same
with the fused kernels of onnxruntime, whether all is equal, and the share of equal decisions.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor


def from_pt2(path: Path, given: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    with torch.no_grad():
        yield torch.export.load(path).module()(given["x"]), given["y"]


def from_onnx(
    path: Path, given: Mapping[str, Tensor], *, fused: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """As the file is written, or with the integer kernels that onnxruntime puts in its place."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not fused:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (name,) = [item.name for item in session.get_inputs()]
    (found,) = session.run(None, {name: given["x"].numpy()})
    yield torch.from_numpy(found), given["y"]


def from_compressed_tensors(
    path: Path, given: Mapping[str, Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationConfig

    stored = load_file(path / "model.safetensors")
    config = QuantizationConfig.model_validate(
        json.loads((path / "config.json").read_text())["quantization_config"]
    )
    for scheme in config.config_groups.values():
        for target in scheme.targets:
            prefix = f"{target}."
            state = {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
            found = PackedQuantizationCompressor.decompress(state, scheme)["weight"]
            yield found, given[f"{target}.weight"]


def from_gguf(path: Path, given: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    from gguf import GGUFReader, dequantize

    stored = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    for name, expected in given.items():
        tensor = stored[name]
        yield torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type))), expected


READERS = {
    "pt2": from_pt2,
    "onnx": from_onnx,
    "compressed-tensors": from_compressed_tensors,
    "gguf": from_gguf,
}


def relative(pairs: list[tuple[Tensor, Tensor]]) -> float:
    found, expected = (
        torch.cat([part.flatten().double() for part in side]) for side in zip(*pairs, strict=True)
    )
    return ((found - expected).square().mean() / expected.square().mean()).sqrt().item()


def main() -> None:
    form, path, given = sys.argv[1:]
    pairs = list(READERS[form](Path(path), load_file(given)))
    assert pairs, "nothing to compare"
    assert not [name for name in sys.modules if name.startswith("qcompile")]
    fused = [*from_onnx(Path(path), load_file(given), fused=True)] if form == "onnx" else pairs
    agreement = None
    if form in {"pt2", "onnx"}:
        same = fused[0][0].argmax(1) == fused[0][1].argmax(1)
        agreement = same.double().mean().item()
    result = {
        "relative": relative(pairs),
        "relative_fused": relative(fused),
        "exact": all(torch.equal(found, expected) for found, expected in pairs),
        "agreement": agreement,
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()

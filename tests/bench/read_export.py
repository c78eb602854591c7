"""Read one exported model with a program of others, and compare. Run as a script: no qcompile here.

``read_export.py FORMAT FILE GIVEN``: ``GIVEN`` has inputs ``x`` and outputs ``y``, or the weights
by name. Prints JSON: the root mean square of the difference over that of the reference, the same
with the fused kernels of onnxruntime, and with those but inputs of 4-bit weights in float; whether
all is equal, and the share of equal decisions. For ONNX also, layer by layer, how many codes
onnxruntime makes otherwise of the simulation's codes, which ``GIVEN`` has as ``at:NAME``, with
their images as ``few``: what layers add of their own.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor


def from_pt2(path: Path, given: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    with torch.no_grad():
        yield torch.export.load(path).module()(given["x"]), given["y"]


def from_onnx(
    path: Path, given: Mapping[str, Tensor], *, fused: bool = False, in_float: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """As the file is written, or with the integer kernels that onnxruntime puts in its place."""
    session = session_of(path, fused, in_float)
    (name,) = [item.name for item in session.get_inputs()]
    (found,) = session.run(None, {name: given["x"].numpy()})
    yield torch.from_numpy(found), given["y"]


Model = Any
"""``onnx`` has no types."""
OFF, ON = False, True


def session_of(model: "Path | bytes", fused: bool, in_float: bool = False) -> Any:
    """``in_float``: what meets a weight of 4 bits is not rounded on the way."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if in_float:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    options.log_severity_level = 3
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def layers(path: Path, given: Mapping[str, Tensor]) -> dict[str, object]:
    """Each quantizer and the output, from the nearest codes in front of them.

    ``off``: the share of all codes that differ; ``worst``: of one layer; ``most``: by how many
    codes at most; ``last``: relative difference of the output. First as written, then fused; and
    the processor time of each for all images.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    codes = {model.graph.input[0].name: given["few"].numpy()}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] in stored:
            continue
        name = f"at:{node.output[0].partition('.')[0]}"
        if name in given:
            scale, zero = stored[node.input[1]], stored[node.input[2]]
            steps = np.rint(given[name].numpy() / scale) + zero
            codes[node.input[0]] = steps.astype(zero.dtype)
    output = model.graph.output[0].name
    found: dict[str, list[float]] = {"off": [], "worst": [], "most": [], "last": []}
    for fused in (OFF, ON):
        shares: list[tuple[int, int]] = []
        most = 0
        for name in [*list(codes)[1:], output]:
            part, inputs = cut(model, name, codes)
            made = session_of(part, fused).run(None, {item: codes[item] for item in inputs})[0]
            if name == output:
                pair = (torch.from_numpy(made), given["few_y"])
                found["last"].append(relative([pair]))
                continue
            apart = np.abs(made.astype(np.int64) - codes[name])
            shares.append((int((apart > 0).sum()), apart.size))
            most = max(most, int(apart.max()))
        wrong, total = (sum(pair[side] for pair in shares) for side in range(2))
        found["off"].append(wrong / max(total, 1))
        found["worst"].append(max((one / size for one, size in shares), default=0.0))
        found["most"].append(most)
    seconds = [processor_seconds(session_of(path, fused), given["x"]) for fused in (OFF, ON)]
    return {"layers": len(codes) - 1, "seconds": seconds, **found}


def processor_seconds(session: Any, x: Tensor) -> float:
    """Of all images, once each."""
    (name,) = [item.name for item in session.get_inputs()]
    session.run(None, {name: x[:1].numpy()})
    start = time.process_time()
    session.run(None, {name: x.numpy()})
    return time.process_time() - start


def cut(model: Model, output: str, codes: Mapping[str, object]) -> tuple[bytes, list[str]]:
    """The part of ``model`` that makes ``output`` of values in ``codes``, and which those are."""
    from onnx import TensorProto, helper

    makers = {name: node for node in model.graph.node for name in node.output}
    stored = {item.name: item for item in model.graph.initializer}
    waiting, needed, inputs, constants = [output], [], [], {}
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        if name in codes and name != output:
            inputs.append(name)
        elif name in stored:
            constants[name] = stored[name]
        else:
            needed.append(makers[name].output[0])
            waiting.extend(makers[name].input)
    nodes = [node for node in model.graph.node if node.output[0] in needed]
    types = {np.dtype("float32"): TensorProto.FLOAT, np.dtype("uint8"): TensorProto.UINT8}
    types[np.dtype("int8")] = TensorProto.INT8
    of = {name: types[codes[name].dtype] for name in inputs}  # pyright: ignore[reportAttributeAccessIssue]
    kind = TensorProto.FLOAT if output not in codes else types[codes[output].dtype]  # pyright: ignore[reportAttributeAccessIssue]
    graph = helper.make_graph(
        nodes,
        "part",
        [helper.make_tensor_value_info(name, of[name], None) for name in inputs],
        [helper.make_tensor_value_info(output, kind, None)],
        list(constants.values()),
    )
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return made.SerializeToString(), inputs


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


def same_decisions(found: Tensor, expected: Tensor) -> float:
    return (found.argmax(1) == expected.argmax(1)).double().mean().item()


def main() -> None:
    form, path, given = sys.argv[1:]
    pairs = list(READERS[form](Path(path), load_file(given)))
    assert pairs, "nothing to compare"
    assert not [name for name in sys.modules if name.startswith("qcompile")]
    fused = in_float = pairs
    if form == "onnx":
        tensors = load_file(given)
        fused = [*from_onnx(Path(path), tensors, fused=True)]
        in_float = [*from_onnx(Path(path), tensors, fused=True, in_float=True)]
    result = {
        "relative": relative(pairs),
        "relative_fused": relative(fused),
        "exact": all(torch.equal(found, expected) for found, expected in pairs),
        "agreement": same_decisions(*pairs[0]) if form in {"pt2", "onnx"} else None,
        "agreement_fused": same_decisions(*fused[0]) if form in {"pt2", "onnx"} else None,
        "relative_in_float": relative(in_float),
        "agreement_in_float": same_decisions(*in_float[0]) if form == "onnx" else None,
        "by_layer": layers(Path(path), load_file(given)) if form == "onnx" else None,
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()

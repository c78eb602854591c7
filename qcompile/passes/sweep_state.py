"""What a sweep needs to go on after a unit: live values, and weights that are used again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from qcompile.passes.sweep_streams import Streams
from qcompile.passes.sweep_values import Value

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True, eq=False)
class ChainState:
    """A sweep that stopped after ``unit``.

    ``tensors`` are contiguous and share no memory with each other, ready for safetensors. They are
    the sweep's own until it is advanced: write them out, or copy them, before asking for more.
    """

    unit: str
    tensors: dict[str, Tensor]
    index: str
    """JSON: where each tensor belongs, and the values that are no tensors."""


def chain_state(unit: str, streams: Streams, weights: Mapping[str, Tensor]) -> ChainState:
    """The state after ``unit``; ``streams`` must be settled. ``weights`` by artifact name."""
    tensors = {f"weight:{name}": tensor for name, tensor in weights.items()}
    nodes: dict[str, Json] = {}
    for name in streams.live:
        entry: dict[str, Json] = {"float": _encode_all(streams.float_values(name), name, tensors)}
        if not streams.is_shared(name):
            values = streams.quantized_values(name)
            entry["quantized"] = _encode_all(values, f"{name}'", tensors)
        nodes[name] = entry
    return ChainState(unit, tensors, json.dumps({"nodes": nodes}))


def restored(state: ChainState, device: torch.device) -> tuple[Streams, dict[str, Tensor]]:
    """Streams and weights of a state, in fresh memory on ``device``."""
    tensors = {name: tensor.to(device, copy=True) for name, tensor in state.tensors.items()}
    index = cast("dict[str, dict[str, dict[str, list[Json]]]]", json.loads(state.index))
    streams = Streams()
    for name, entry in index["nodes"].items():
        float_values = [_decode(item, tensors, device) for item in entry["float"]]
        quantized: list[Value] | None = None
        if "quantized" in entry:
            quantized = [_decode(item, tensors, device) for item in entry["quantized"]]
        streams.put(name, float_values, quantized)
    prefix = "weight:"
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    return streams, weights


def _encode_all(values: list[Value], name: str, tensors: dict[str, Tensor]) -> Json:
    return [_encode(value, f"value:{name}:{batch}", tensors) for batch, value in enumerate(values)]


def _encode(value: Value, name: str, tensors: dict[str, Tensor]) -> Json:
    """One of ``{"kind": "tensor" | "plain" | ..., "of": ...}``; tensors go into ``tensors``."""
    match value:
        case Tensor():
            tensors[name] = value
            return {"kind": "tensor", "of": name}
        case None | bool() | int() | float() | str():
            return {"kind": "plain", "of": value}
        case torch.Size():
            return {"kind": "size", "of": list(value)}
        case tuple() | list():
            items = cast("list[Value]", value)
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {
                "kind": kind,
                "of": [_encode(item, f"{name}.{i}", tensors) for i, item in enumerate(items)],
            }
        case dict():
            pairs = cast("dict[str, Value]", value).items()
            return {
                "kind": "dict",
                "of": {key: _encode(item, f"{name}.{key}", tensors) for key, item in pairs},
            }
        case torch.dtype():
            return {"kind": "dtype", "of": str(value).removeprefix("torch.")}
        case torch.device():
            # the device of the run: the state may be continued on another
            return {"kind": "device", "of": None}
        case _:
            raise TypeError(f"a value of type {type(value).__name__} cannot be saved: {name}")


def _decode(item: Json, tensors: Mapping[str, Tensor], device: torch.device) -> Value:
    entry = cast("dict[str, Json]", item)
    content = entry["of"]
    match cast("str", entry["kind"]):
        case "tensor":
            return tensors[cast("str", content)]
        case "size":
            return torch.Size(cast("list[int]", content))
        case "tuple":
            return tuple(_decode(part, tensors, device) for part in cast("list[Json]", content))
        case "list":
            return [_decode(part, tensors, device) for part in cast("list[Json]", content)]
        case "dict":
            parts = cast("dict[str, Json]", content).items()
            return {key: _decode(part, tensors, device) for key, part in parts}
        case "dtype":
            return cast("torch.dtype", getattr(torch, cast("str", content)))
        case "device":
            return device
        case _:
            return content

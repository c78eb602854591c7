"""What GGUF calls a language model of transformers: its architecture, tensors and hyperparameters.

Names and keys are those of the GGUF specification and of llama.cpp's model loader. Sizes are those
of the tensors; of the config is read what no tensor shows, and its angles have to be the model's.
Whatever a family here cannot say of a model is a reason not to call it by that name.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from qcompile.interop.gguf_file import Value

Window: TypeAlias = Literal["never", "where asked for", "unless it says none"]
"""When a model attends to its last tokens alone."""


@dataclass(frozen=True, slots=True)
class Family:
    architecture: str
    """``general.architecture``: what decides how the file is run."""
    biases: frozenset[str] = frozenset()
    """Modules of a layer that may have one."""
    norms: frozenset[str] = frozenset()
    """Norms of a layer beside the two that all have."""
    pairs_neighbours: bool = False
    """Rotates neighbours of a head by one angle, where transformers rotates its two halves."""
    stretches: bool = False
    """Reads ``FREQUENCIES``."""
    window: Window = "never"


_ATTENTION = frozenset({"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"})
_MLP = frozenset({"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
_LLAMA = Family(
    "llama",
    biases=_ATTENTION | _MLP | {"self_attn.o_proj"},
    pairs_neighbours=True,
    stretches=True,
)
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "LlamaForCausalLM": _LLAMA,
        "MistralForCausalLM": replace(_LLAMA, window="unless it says none"),
        "Qwen2ForCausalLM": Family("qwen2", biases=_ATTENTION, window="where asked for"),
        "Qwen3ForCausalLM": Family(
            "qwen3",
            norms=frozenset({"self_attn.q_norm", "self_attn.k_norm"}),
            window="where asked for",
        ),
    }
)
"""By the class of transformers."""

TOP_NAMES: Mapping[str, str] = MappingProxyType(
    {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
)
LAYER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
)
"""Each layer has a weight of each of these."""
NORM_NAMES: Mapping[str, str] = MappingProxyType(
    {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
)
_NAME = re.compile(r"(?:model\.layers\.(\d+)\.)?(.+)\.(weight|bias)")
EMBEDDING = "model.embed_tokens.weight"
ANGLES = "model.rotary_emb.inv_freq"
"""By how much a place turns each pair of numbers."""
FREQUENCIES = "rope_freqs.weight"
"""By what the angles are divided; a model that was stretched to longer texts has some."""

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
Count: TypeAlias = Annotated[int, Field(gt=0, lt=1 << 32)]
Positive: TypeAlias = Annotated[float, Field(gt=1e-30, lt=1e30)]
"""So that float32 has it."""


class _Rope(BaseModel):
    model_config = ConfigDict(frozen=True)

    rope_theta: Positive = 10_000.0
    rope_type: str = "default"
    factor: Positive = 1.0
    low_freq_factor: Positive = 1.0
    high_freq_factor: Positive = 4.0
    original_max_position_embeddings: Count | None = None


class _Named(BaseModel):
    model_config = ConfigDict(frozen=True)

    architectures: tuple[str, ...]


class _Config(BaseModel):
    """What is read of ``config.json`` of a family."""

    model_config = ConfigDict(frozen=True)

    num_attention_heads: Count
    max_position_embeddings: Count
    rms_norm_eps: Positive
    hidden_act: str = "silu"
    rope_theta: Positive | None = None
    rope_parameters: dict[str, object] | None = None
    rope_scaling: dict[str, object] | None = None
    """Older than ``rope_parameters``, without the ``rope_theta``, and heard before them."""
    original_max_position_embeddings: Count | None = None
    sliding_window: int | None = None
    use_sliding_window: bool = False
    layer_types: tuple[str, ...] | None = None

    @property
    def rope(self) -> _Rope:
        theta = {} if self.rope_theta is None else {"rope_theta": self.rope_theta}
        found = theta | (self.rope_scaling or self.rope_parameters or {})
        if "type" in found:
            found = {"rope_type": found["type"]} | found
        if self.original_max_position_embeddings is not None:
            found["original_max_position_embeddings"] = self.original_max_position_embeddings
        return _Rope.model_validate(found)

    def has_window(self, window: Window) -> bool:
        if self.layer_types is not None:
            return any(kind != "full_attention" for kind in self.layer_types)
        match window:
            case "never":
                return False
            case "where asked for":
                return self.use_sliding_window
            case "unless it says none":
                silent = "sliding_window" not in self.model_fields_set
                return silent or self.sliding_window is not None


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModel:
    architecture: str
    hyperparameters: Mapping[str, Value]
    frequencies: Tensor | None
    """``[head / 2]``, float32: ``FREQUENCIES``."""
    _names: Mapping[str, str]
    _paired_heads: Mapping[str, int]
    """Heads of the projections whose rows change places, by the end of their module's path."""

    def name(self, name: str) -> str:
        """Of a tensor that ``language_model`` was asked for."""
        return self._names[name]

    def row_order(self, name: str, rows: int) -> Tensor | None:
        """Which row of ours comes where; ``None``: they stay where they are."""
        module = name.rpartition(".")[0].rpartition(".")[2]
        heads = self._paired_heads.get(module)
        if heads is None:
            return None
        return torch.arange(rows).reshape(heads, 2, -1).transpose(1, 2).reshape(-1)


def language_model(config: bytes, shapes: Shapes, angles: Tensor | None) -> LanguageModel | str:
    """A string says why it is none of these.

    ``shapes``: of all tensors that the model keeps, by name. ``angles``: what the model has for
    ``ANGLES``, ``None`` where they are not known yet.
    """
    try:
        names = _Named.model_validate_json(config).architectures
        family = FAMILIES.get(next(iter(names), ""))
        if family is None:
            named = ", ".join(names) or "none"
            return f"`{named}` is none of the architectures {', '.join(FAMILIES)}"
        read = _Config.model_validate_json(config)
        rope = read.rope
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "it"
        return f"in `config.json`, `{place}`: {problem['msg'].lower()}"
    translated = {name: _translated(name, family) for name in shapes}
    sizes = _Sizes.of(shapes, read.num_attention_heads)
    reason = _foreign(translated, shapes, family) or _unspoken(read, rope, family)
    if not reason and (sizes is None or not sizes.fit(shapes, family)):
        reason = "its tensors have not the sizes of its heads"
    if reason or sizes is None:
        return reason
    factors = _factors(rope, read, sizes.head)
    expected = rope.rope_theta ** -_exponents(sizes.head) / factors
    if angles is not None and not _are_close(angles, expected):
        return "its positions are not turned as its `config.json` says"
    return LanguageModel(
        family.architecture,
        _hyperparameters(family.architecture, read, rope, sizes),
        factors.to(torch.float32) if rope.rope_type == "llama3" else None,
        {name: known for name, known in translated.items() if known is not None},
        {"q_proj": sizes.heads, "k_proj": sizes.shared} if family.pairs_neighbours else {},
    )


@dataclass(frozen=True, slots=True)
class _Sizes:
    layers: int
    width: int
    inner: int
    heads: int
    shared: int
    """Heads of keys and values."""
    head: int

    @staticmethod
    def of(shapes: Shapes, heads: int) -> "_Sizes | None":
        """As the first layer has them."""
        first = {end: shapes.get(f"model.layers.0.{end}.weight", ()) for end in LAYER_NAMES}
        if any(len(first[end]) != 2 for end in _ATTENTION | _MLP):
            return None
        rows = {end: first[end][0] for end in _ATTENTION | _MLP}
        head, rest = divmod(rows["self_attn.q_proj"], heads)
        if rest or not head or head % 2:
            return None
        shared = rows["self_attn.k_proj"] // head
        width, inner = rows["mlp.down_proj"], rows["mlp.gate_proj"]
        layers = len({name.split(".")[2] for name in shapes if name.startswith("model.layers.")})
        return _Sizes(layers, width, inner, heads, shared, head)

    def fit(self, shapes: Shapes, family: Family) -> bool:
        """Every layer has every tensor, in these sizes."""
        rows, narrow = self.heads * self.head, self.shared * self.head
        wanted: dict[str, tuple[int, ...]] = {
            "self_attn.q_proj": (rows, self.width),
            "self_attn.k_proj": (narrow, self.width),
            "self_attn.v_proj": (narrow, self.width),
            "self_attn.o_proj": (self.width, rows),
            "mlp.gate_proj": (self.inner, self.width),
            "mlp.up_proj": (self.inner, self.width),
            "mlp.down_proj": (self.width, self.inner),
            "input_layernorm": (self.width,),
            "post_attention_layernorm": (self.width,),
            **dict.fromkeys(family.norms, (self.head,)),
        }
        of_layers = all(
            shapes.get(f"model.layers.{place}.{end}.weight") == shape
            and shapes.get(f"model.layers.{place}.{end}.bias", shape[:1]) == shape[:1]
            for place in range(self.layers)
            for end, shape in wanted.items()
        )
        table = shapes[EMBEDDING]
        top = len(table) == 2 and table[1] == self.width
        head = shapes.get("lm_head.weight", table) == table
        return of_layers and top and head and shapes.get("model.norm.weight") == (self.width,)


def _translated(name: str, family: Family) -> str | None:
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    layer, module, kind = found.groups()
    if kind == "bias" and (layer is None or module not in family.biases):
        return None
    if layer is None:
        return f"{TOP_NAMES[module]}.{kind}" if module in TOP_NAMES else None
    norms = {end: NORM_NAMES[end] for end in family.norms}
    known = {**LAYER_NAMES, **norms}.get(module)
    return None if known is None else f"blk.{layer}.{known}.{kind}"


def _foreign(names: Mapping[str, str | None], shapes: Shapes, family: Family) -> str:
    strange = next((name for name, known in names.items() if known is None), None)
    if strange is not None or EMBEDDING not in shapes:
        return f"`{strange or EMBEDDING}` is not a tensor of `{family.architecture}`"
    return ""


def _unspoken(config: _Config, rope: _Rope, family: Family) -> str:
    if config.has_window(family.window):
        return "it attends in a sliding window"
    if config.hidden_act != "silu":
        return f"its activation is `{config.hidden_act}`"
    known = {"default", "linear", *(("llama3",) if family.stretches else ())}
    if rope.rope_type not in known:
        return f"its positions are of the type `{rope.rope_type}`"
    if rope.rope_type == "llama3" and rope.high_freq_factor <= rope.low_freq_factor:
        return "its `high_freq_factor` is not above its `low_freq_factor`"
    return ""


def _hyperparameters(
    architecture: str, config: _Config, rope: _Rope, sizes: _Sizes
) -> dict[str, Value]:
    found: dict[str, Value] = {
        "block_count": sizes.layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": sizes.width,
        "feed_forward_length": sizes.inner,
        "attention.head_count": sizes.heads,
        "attention.head_count_kv": sizes.shared,
        "attention.key_length": sizes.head,
        "attention.value_length": sizes.head,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.dimension_count": sizes.head,
        "rope.freq_base": rope.rope_theta,
    }
    if rope.rope_type == "linear":
        found |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope.factor}
    return {f"{architecture}.{key}": value for key, value in found.items()}


def _exponents(head: int) -> Tensor:
    return torch.arange(0, head, 2, dtype=torch.float64) / head


def _factors(rope: _Rope, config: _Config, head: int) -> Tensor:
    """``[head / 2]``: by what each angle is divided."""
    exponents = _exponents(head)
    match rope.rope_type:
        case "linear":
            return torch.full_like(exponents, rope.factor)
        case "llama3":  # fast ones by 1, slow ones by the factor
            length = rope.original_max_position_embeddings or config.max_position_embeddings
            turns = length * rope.rope_theta**-exponents / (2 * math.pi)
            low, high = rope.low_freq_factor, rope.high_freq_factor
            smooth = ((turns - low) / (high - low)).clamp(0, 1)
            return 1 / ((1 - smooth) / rope.factor + smooth)
        case _:
            return torch.ones_like(exponents)


def _are_close(angles: Tensor, expected: Tensor) -> bool:
    """As near as their own type has them."""
    found, near = angles.to(torch.float64), max(1e-5, 2 * torch.finfo(angles.dtype).eps)
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=near, atol=0.0)

"""What GGUF calls a language model of transformers: its architecture, tensors and hyperparameters.

Names and keys are those of the GGUF specification and of llama.cpp's model loader. Whatever a
family here cannot say of a model is a reason not to call it by that name.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from qcompile.interop.gguf_file import Value


@dataclass(frozen=True, slots=True)
class Family:
    architecture: str
    """``general.architecture``: what decides how the file is run."""
    pairs_neighbours: bool
    """Rotates neighbours of a head by one angle, where transformers rotates its two halves."""


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "LlamaForCausalLM": Family("llama", pairs_neighbours=True),
        "MistralForCausalLM": Family("llama", pairs_neighbours=True),
        "Qwen2ForCausalLM": Family("qwen2", pairs_neighbours=False),
        "Qwen3ForCausalLM": Family("qwen3", pairs_neighbours=False),
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
        "self_attn.q_norm": "attn_q_norm",
        "self_attn.k_norm": "attn_k_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
)
_NAME = re.compile(r"(?:model\.layers\.(\d+)\.)?(.+)\.(weight|bias)")
EMBEDDING = "model.embed_tokens.weight"
FREQUENCIES = "rope_freqs.weight"
"""Factors of the angles; a model that was stretched to longer texts has some."""


class _Rope(BaseModel):
    model_config = ConfigDict(frozen=True)

    rope_theta: float = 10_000.0
    rope_type: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 0


class _Config(BaseModel):
    """What is read of ``config.json``."""

    model_config = ConfigDict(frozen=True)

    architectures: tuple[str, ...]
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int
    rms_norm_eps: float
    hidden_act: str = "silu"
    partial_rotary_factor: float = 1.0
    rope_theta: float | None = None
    rope_parameters: dict[str, object] | None = None
    rope_scaling: dict[str, object] | None = None
    """Older than ``rope_parameters``, and without the ``rope_theta``."""
    sliding_window: int | None = None
    use_sliding_window: bool = True
    layer_types: tuple[str, ...] | None = None

    @property
    def head(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def rope(self) -> _Rope:
        theta = {} if self.rope_theta is None else {"rope_theta": self.rope_theta}
        found = theta | (self.rope_parameters or self.rope_scaling or {})
        if "type" in found:
            found = {"rope_type": found["type"]} | found
        return _Rope.model_validate(found)

    @property
    def has_window(self) -> bool:
        if self.layer_types is not None:
            return any(kind != "full_attention" for kind in self.layer_types)
        return self.use_sliding_window and self.sliding_window is not None


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModel:
    architecture: str
    hyperparameters: Mapping[str, Value]
    frequencies: Tensor | None
    """``[head / 2]``, float32: ``FREQUENCIES``."""
    _paired_heads: Mapping[str, int]
    """Heads of the projections whose rows change places, by the end of their module's path."""

    def name(self, name: str) -> str:
        """Of a tensor of the model, one that ``language_model`` was asked for."""
        found = _translated(name)
        assert found is not None, name
        return found

    def row_order(self, name: str, rows: int) -> Tensor | None:
        """Which row of ours comes where; ``None``: they stay where they are."""
        module = name.rpartition(".")[0].rpartition(".")[2]
        heads = self._paired_heads.get(module)
        if heads is None:
            return None
        return torch.arange(rows).reshape(heads, 2, -1).transpose(1, 2).reshape(-1)


def language_model(config: bytes, shapes: Mapping[str, tuple[int, ...]]) -> LanguageModel | str:
    """``shapes``: of all tensors of the model, by name. A string says why it is none of these."""
    try:
        read = _Config.model_validate_json(config)
        rope = read.rope
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "it"
        return f"in `config.json`, `{place}`: {problem['msg'].lower()}"
    family = FAMILIES.get(next(iter(read.architectures), ""))
    if family is None:
        named = ", ".join(read.architectures) or "none"
        return f"`{named}` is none of the architectures {', '.join(FAMILIES)}"
    strange = next((name for name in shapes if _translated(name) is None), None)
    if strange is not None or EMBEDDING not in shapes:
        return f"`{strange or EMBEDDING}` is not a tensor of `{family.architecture}`"
    reason = _unspoken(read, rope)
    if reason:
        return reason
    heads, shared = read.num_attention_heads, read.num_key_value_heads or read.num_attention_heads
    return LanguageModel(
        family.architecture,
        _hyperparameters(family.architecture, read, rope, shared),
        _stretched(rope, read) if rope.rope_type == "llama3" else None,
        {"q_proj": heads, "k_proj": shared} if family.pairs_neighbours else {},
    )


def _translated(name: str) -> str | None:
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    layer, module, kind = found.groups()
    names = TOP_NAMES if layer is None else LAYER_NAMES
    if module not in names:
        return None
    place = "" if layer is None else f"blk.{layer}."
    return f"{place}{names[module]}.{kind}"


def _unspoken(config: _Config, rope: _Rope) -> str:
    if config.has_window:
        return "it attends in a sliding window"
    if config.hidden_act != "silu":
        return f"its activation is `{config.hidden_act}`"
    if config.partial_rotary_factor != 1:
        return "it rotates a part of each head"
    if rope.rope_type not in {"default", "linear", "llama3"}:
        return f"its positions are of the type `{rope.rope_type}`"
    return ""


def _hyperparameters(
    architecture: str, config: _Config, rope: _Rope, shared_heads: int
) -> dict[str, Value]:
    found: dict[str, Value] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": shared_heads,
        "attention.key_length": config.head,
        "attention.value_length": config.head,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.dimension_count": config.head,
        "rope.freq_base": rope.rope_theta,
    }
    if rope.rope_type == "linear":
        found |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope.factor}
    return {f"{architecture}.{key}": value for key, value in found.items()}


def _stretched(rope: _Rope, config: _Config) -> Tensor:
    """By what each angle is divided (Llama 3.1): fast ones by 1, slow ones by ``factor``."""
    length = rope.original_max_position_embeddings or config.max_position_embeddings
    exponent = torch.arange(0, config.head, 2, dtype=torch.float64) / config.head
    turns = length * rope.rope_theta**-exponent / (2 * math.pi)
    low, high = rope.low_freq_factor, rope.high_freq_factor
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 / ((1 - smooth) / rope.factor + smooth)).to(torch.float32)

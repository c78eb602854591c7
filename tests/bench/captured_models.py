"""Fifteen models, most of them other people's, as ``make bench-plan`` captures them.

torchvision and timm in their published sizes, Hugging Face models from small configurations; all
with random weights.
"""

from collections.abc import Callable, Mapping
from functools import partial

from tests.bench.torchvision_beside_cpu import torchvision

# isort: split
import timm
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PretrainedConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5Model,
    ViTConfig,
    ViTModel,
    WhisperConfig,
    WhisperModel,
)

from tests.capture.traced_models import (
    VOCABULARY,
    Case,
    Inputs,
    ResNet20,
    normal,
    padded_tokens,
    token_ids,
)

HEADS = {"num_attention_heads": 4, "num_hidden_layers": 3}
SIZES = {"hidden_size": 64, "intermediate_size": 128, **HEADS}
ENCODER = {"vocab_size": VOCABULARY, **SIZES}
DECODER = {**ENCODER, "num_key_value_heads": 2, "max_position_embeddings": 128, "use_cache": False}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128}
T5 = {"vocab_size": VOCABULARY, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2}
WHISPER = {
    "vocab_size": VOCABULARY,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "max_source_positions": 50,
    "max_target_positions": 40,
}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


def speech(n: int, t: int, g: torch.Generator) -> Inputs:
    features = torch.randn(n, 80, 100, generator=g)
    return {"input_features": features, "decoder_input_ids": token_ids(n, t, g)}


def translation(n: int, t: int, g: torch.Generator) -> Inputs:
    return {"input_ids": token_ids(n, t, g), "decoder_input_ids": token_ids(n, t + 3, g)}


def configured(
    model: type[nn.Module], config: type[PretrainedConfig], **sizes: object
) -> Callable[[], nn.Module]:
    return lambda: model(config(**sizes))


published = partial(partial, timm.create_model)

CASES: Mapping[str, Case] = {
    "resnet20": Case(ResNet20, normal("x", 1, 28, 28)),
    "torchvision-resnet18": Case(torchvision.models.resnet18, normal("x", 3, 64, 64)),
    "timm-mobilenetv2": Case(published("mobilenetv2_100"), normal("x", 3, 64, 64)),
    "timm-vit-tiny": Case(published("vit_tiny_patch16_224"), normal("x", 3, 224, 224)),
    "timm-convnext-atto": Case(published("convnext_atto"), normal("x", 3, 64, 64)),
    "timm-swin-tiny": Case(published("swin_tiny_patch4_window7_224"), normal("x", 3, 224, 224)),
    "nn-transformer-encoder": Case(encoder, normal("src", 16, 64)),
    "hf-bert": Case(configured(BertModel, BertConfig, **ENCODER), padded_tokens),
    "hf-llama": Case(configured(LlamaForCausalLM, LlamaConfig, **DECODER), padded_tokens),
    "hf-qwen3": Case(
        configured(Qwen3ForCausalLM, Qwen3Config, head_dim=16, **DECODER), padded_tokens
    ),
    "hf-gpt2": Case(
        configured(
            GPT2LMHeadModel, GPT2Config, bos_token_id=0, eos_token_id=0, use_cache=False, **GPT2
        ),
        padded_tokens,
    ),
    "hf-vit": Case(
        configured(ViTModel, ViTConfig, image_size=32, patch_size=8, **SIZES),
        normal("pixel_values", 3, 32, 32),
    ),
    "hf-whisper": Case(
        configured(WhisperModel, WhisperConfig, use_cache=False, **WHISPER, **IDS), speech
    ),
    "hf-t5": Case(
        configured(T5Model, T5Config, num_heads=4, decoder_start_token_id=0, use_cache=False, **T5),
        translation,
    ),
    "hf-mixtral": Case(
        configured(MixtralForCausalLM, MixtralConfig, num_local_experts=4, **DECODER),
        padded_tokens,
    ),
}

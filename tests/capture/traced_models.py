"""Models that several capture tests trace, each with a maker of inputs of any batch and length."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from tests.tiny_models import (
    AttentionBlock,
    ConvNet,
    Mlp,
    ResidualBlock,
    ResidualNet,
    SharedNet,
    seeded,
)

VOCABULARY = 97
Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    inputs: Callable[[int, int, torch.Generator], Inputs]
    """``(batch, length, generator)``; a model of fixed length ignores the second."""
    options: Mapping[str, object] = field(default_factory=dict)

    def model(self) -> nn.Module:
        return seeded(self.build())

    def batch(self, rows: int, length: int, seed: int = 0) -> Inputs:
        return self.inputs(rows, length, torch.Generator().manual_seed(seed))


def normal(name: str, *shape: int):
    return lambda n, t, g: {name: torch.randn((n, *shape), generator=g)}


def token_ids(n: int, t: int, g: torch.Generator, size: int = VOCABULARY) -> Tensor:
    return torch.randint(0, size, (n, t), generator=g)


def padded_tokens(n: int, t: int, g: torch.Generator) -> Inputs:
    """The first row ends in padding, by as much as the seed says."""
    mask = torch.ones(n, t, dtype=torch.long)
    padding = int(torch.randint(1, t - 1, (1,), generator=g))
    mask[0, -padding:] = 0
    return {"input_ids": token_ids(n, t, g), "attention_mask": mask}


def llama() -> nn.Module:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, max_position_embeddings=64))


def bert() -> nn.Module:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64}
    heads = {"num_attention_heads": 4, "num_hidden_layers": 2}
    return BertModel(BertConfig(**sizes, **heads, max_position_embeddings=64))


def gpt2() -> nn.Module:
    sizes = {"vocab_size": VOCABULARY, "n_embd": 32, "n_positions": 64, "n_layer": 2, "n_head": 4}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


class ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        )
        widths = [4, 4, 4, 4, 8, 8, 8, 16, 16, 16]
        self.layers = nn.Sequential(
            *(ResidualBlock(a, b, 1 + (a != b)) for a, b in pairwise(widths))
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(self.layers(self.stem(x))), 1))


class Vit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(1, 16, 7, 7)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 16))
        self.pos_embed = nn.Parameter(torch.zeros(1, 17, 16))
        self.blocks = nn.Sequential(AttentionBlock(), AttentionBlock(), AttentionBlock())
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class FlatResidual(nn.Module):
    """Two residual branches without any container around them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.a1, self.a2 = nn.Linear(8, 8), nn.Linear(8, 8)
        self.b1, self.b2 = nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = functional.relu(x + self.a2(functional.relu(self.a1(x))))
        x = functional.relu(x + self.b2(functional.relu(self.b1(x))))
        return self.head(x)


CASES: Mapping[str, Case] = {
    "mlp": Case(Mlp, normal("x", 8)),
    "conv_net": Case(ConvNet, normal("x", 3, 8, 8)),
    "residual_net": Case(ResidualNet, normal("x", 3, 8, 8)),
    "attention_block": Case(AttentionBlock, normal("x", 5, 16)),
    "shared_net": Case(SharedNet, lambda n, t, g: {"ids": token_ids(n, t, g, 11)}),
    "resnet20": Case(ResNet20, normal("x", 1, 28, 28)),
    "vit": Case(Vit, normal("x", 1, 28, 28)),
    "flat_residual": Case(FlatResidual, normal("x", 8)),
    "encoder": Case(encoder, normal("src", 5, 16)),
    "llama": Case(llama, padded_tokens, {"use_cache": False}),
    "bert": Case(bert, padded_tokens),
    "gpt2": Case(gpt2, padded_tokens, {"use_cache": False}),
}


def tensors(output: object) -> list[Tensor]:
    """All tensors of a model's output, in order."""
    if isinstance(output, Tensor):
        return [output]
    if hasattr(output, "values"):
        output = list(output.values())
    return [tensor for item in output or () for tensor in tensors(item)]

"""Small language models of transformers as folders, with a tokenizer that splits as SmolLM2's."""

import string
from contextlib import chdir
from pathlib import Path

import torch
from click.testing import CliRunner
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from qcompile.cli.main import main

WORDS = 512
SIZES = {
    **{"vocab_size": WORDS, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128},
    **{"initializer_range": 0.2, "tie_word_embeddings": False},
}
TIED = {"tie_word_embeddings": True}
STRETCHED = {
    **{"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0},
    **{"high_freq_factor": 4.0, "original_max_position_embeddings": 64},
}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES | TIED)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SIZES | TIED, head_dim=16)),
    "biased": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True)),
    "stretched": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=STRETCHED)),
    "linear": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=LINEAR)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None)),
    "windowed": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=32)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=32)),
}
TEXT = Path(__file__).parents[2] / "docs" / "language.md"


def model(name: str) -> PreTrainedModel:
    """No gain is 1 and no bias 0: what is left out or comes to another place is seen."""
    torch.manual_seed(0)
    made = MODELS[name]().eval()
    with torch.no_grad():
        for path, parameter in made.named_parameters():
            if path.endswith("bias") or "norm" in path:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS - 4,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXT.read_text().splitlines(), trainer)
    return made


def pieces() -> Tokenizer:
    """As SentencePiece has them: spaces are marked, unknown characters are bytes, and each token
    has as many pairs as it can be cut in two."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    alphabet = sorted(set(string.ascii_letters) | {"\u2581"})
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS - 260, limit_alphabet=53, initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(TEXT.read_text().splitlines(), trainer)
    ours = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {name: place for place, name in enumerate([*names, *(one for one, _ in ours)])}
    merges = [
        (token[:at], token[at:])
        for token, _ in ours
        for at in range(1, len(token))
        if token[:at] in vocabulary and token[at:] in vocabulary
    ]
    made = Tokenizer(
        models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    made.pre_tokenizer = trained.pre_tokenizer
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


def save(
    folder: Path,
    name: str,
    words: Tokenizer | None = None,
    kind: torch.dtype = torch.float32,
) -> Path:
    made = model(name).to(kind)
    made.config.bos_token_id, made.config.eos_token_id = 0, 1
    made.save_pretrained(folder / name)
    (words or tokenizer()).save(str(folder / name / "tokenizer.json"))
    return folder / name


CALIBRATE = 'calibrate { data = "text:text.txt"; seq_len = 24; samples = 8; batch = 4; seed = 1 }\n'


def artifact(folder: Path, name: str, scheme: str, *rules: str, rest: str = "") -> Path:
    """Of the model ``folder/name``, quantized by ``rules`` about the scheme ``q``."""
    (folder / "qcompile.toml").write_text("")
    (folder / "text.txt").write_text(TEXT.read_text())
    lines = "\n".join(f"  {rule}" for rule in rules)
    recipe = folder / f"{name}.qrecipe"
    recipe.write_text(
        f'qrecipe 1\nmodel "hf:{name}"\nscheme q {{ {scheme} }}\npolicy main {{\n{lines}\n}}\n'
        f"{rest}tune rtn\n"
    )
    output = folder / f"{name}-q"
    with chdir(folder):  # where a run keeps its state
        done = CliRunner().invoke(main, ["run", str(recipe), "-o", str(output), "-q", "--replace"])
    assert done.exit_code == 0, done.output
    return output


def exported(artifact: Path, form: str, output: Path) -> str:
    """What the command says."""
    given = ["export", str(artifact), "--to", form, "-o", str(output)]
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 0, done.output
    return done.output

"""Which models llama.cpp knows by name, and what is told of them."""

import json

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from qcompile.interop.gguf_language import language_model

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
"""As hand-written ones are: what has a default is not in it."""
NORMS = {"self_attn.q_norm.weight": (16,), "self_attn.k_norm.weight": (16,)}


def layer(place, extra=None):
    ends = {
        "self_attn.q_proj.weight": (64, 48),
        "self_attn.k_proj.weight": (32, 48),
        "self_attn.v_proj.weight": (32, 48),
        "self_attn.o_proj.weight": (48, 64),
        "mlp.gate_proj.weight": (96, 48),
        "mlp.up_proj.weight": (96, 48),
        "mlp.down_proj.weight": (48, 96),
        "input_layernorm.weight": (48,),
        "post_attention_layernorm.weight": (48,),
    }
    return {f"model.layers.{place}.{end}": shape for end, shape in (ends | (extra or {})).items()}


def shapes(extra=None):
    top = {"model.embed_tokens.weight": (320, 48), "model.norm.weight": (48,)}
    return {**top, **layer(0, extra), **layer(1, extra)}


FAMILIES = {
    "LlamaForCausalLM": shapes(),
    "MistralForCausalLM": shapes(),
    "Qwen2ForCausalLM": shapes(),
    "Qwen3ForCausalLM": shapes(NORMS),
}


def angles(theta=10_000.0, factor=1.0, head=16):
    return (theta ** -(torch.arange(0, head, 2) / head)) / factor


def found(given=None, turned=None, **changes):
    document = {key: value for key, value in (CONFIG | changes).items() if value is not None}
    (name,) = document["architectures"] or [""]
    config = json.dumps(document).encode()
    return language_model(config, given or FAMILIES.get(name, shapes()), turned)


def test_sizes_are_those_of_the_tensors():
    told = found(head_dim=77, num_key_value_heads=3, hidden_size=5).hyperparameters
    sizes = {
        "block_count": 2,
        "embedding_length": 48,
        "feed_forward_length": 96,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.key_length": 16,
    }
    assert {key: told[f"llama.{key}"] for key in sizes} == sizes
    assert told["llama.rope.freq_base"] == 10_000.0
    assert told["llama.attention.layer_norm_rms_epsilon"] == 1e-5
    assert "llama.rope.scaling.type" not in told


@pytest.mark.parametrize(
    "said",
    [
        {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 4}},
        {
            "rope_theta": 5e5,
            "rope_scaling": {"rope_type": "linear", "factor": 4},
            "rope_parameters": {"rope_type": "default", "rope_theta": 1.0},
        },
    ],
)
def test_positions_in_the_words_of_older_and_newer_configs(said):
    told = found(turned=angles(5e5, 4.0), **said).hyperparameters
    assert told["llama.rope.freq_base"] == 5e5
    assert told["llama.rope.scaling.type"] == "linear"
    assert told["llama.rope.scaling.factor"] == 4.0


@pytest.mark.parametrize("outside", [False, True])
def test_a_stretched_model_is_turned_as_transformers_turns_it(outside):
    rope = {
        **{"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0},
        **{"high_freq_factor": 4.0, "original_max_position_embeddings": 64},
    }
    sizes = {"hidden_size": 48, "head_dim": 16, "max_position_embeddings": 128}
    config = LlamaConfig(**sizes, num_attention_heads=4, rope_parameters=rope)
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config, device="cpu")
    said = {"rope_parameters": rope | ({"original_max_position_embeddings": 32} if outside else {})}
    whole = {"original_max_position_embeddings": 64} if outside else {}
    assert found(turned=expected, **said, **whole).frequencies.unique().numel() > 2
    assert found(**said, **whole).frequencies.shape == (8,)


def test_names_and_rows():
    model = found()
    assert model.name("model.layers.1.mlp.down_proj.weight") == "blk.1.ffn_down.weight"
    assert model.name("model.norm.weight") == "output_norm.weight"
    order = model.row_order("model.layers.0.self_attn.q_proj.weight", 64).tolist()
    assert order[:4] == [0, 8, 1, 9]
    assert order[16:18] == [16, 24]
    assert sorted(order) == list(range(64))
    assert model.row_order("model.layers.0.self_attn.k_proj.bias", 32).tolist()[:2] == [0, 8]
    assert model.row_order("model.layers.0.self_attn.v_proj.weight", 32) is None
    other = found(architectures=["Qwen3ForCausalLM"])
    assert other.row_order("model.layers.0.self_attn.q_proj.weight", 64) is None
    assert other.name("model.layers.0.self_attn.q_norm.weight") == "blk.0.attn_q_norm.weight"


LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 4.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "`GPT2LMHeadModel` is none of the architectures"),
        ({"architectures": []}, "`none` is none of the architectures"),
        ({"rms_norm_eps": None}, "`rms_norm_eps`: field required"),
        ({"rms_norm_eps": 1e-50}, "`rms_norm_eps`: input should be greater"),
        ({"num_attention_heads": 0}, "`num_attention_heads`: input should be greater"),
        ({"num_attention_heads": 3}, "the sizes of its heads"),
        ({"num_attention_heads": 64}, "the sizes of its heads"),
        ({"max_position_embeddings": 1 << 33}, "`max_position_embeddings`: input should be less"),
        ({"hidden_act": "gelu"}, "its activation is `gelu`"),
        ({"rope_theta": 1e39}, "`rope_theta`: input should be less"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "of the type `yarn`"),
        ({"rope_scaling": {"type": "linear", "factor": "x"}}, "in `config.json`, `factor`"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "in `config.json`, `factor`"),
        ({"rope_scaling": LLAMA3}, "`high_freq_factor` is not above"),
        ({"rope_scaling": LLAMA3, "architectures": ["Qwen2ForCausalLM"]}, "of the type `llama3`"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "a sliding window"),
        ({"architectures": ["MistralForCausalLM"]}, "a sliding window"),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 64}, "a sliding window"),
        ({"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True}, "a sliding window"),
    ],
)
def test_what_has_no_name_is_told(changes, why):
    assert why in found(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["Qwen2ForCausalLM"], "sliding_window": 64},
        {"architectures": ["MistralForCausalLM"], "layer_types": ["full_attention"]},
        {"sliding_window": 64},
    ],
)
def test_a_window_that_is_not_used_is_none(changes):
    assert not isinstance(found(**changes), str)


def test_a_window_that_is_said_to_be_none_is_none():
    config = CONFIG | {"architectures": ["MistralForCausalLM"], "sliding_window": None}
    assert not isinstance(language_model(json.dumps(config).encode(), shapes(), None), str)


@pytest.mark.parametrize(
    "turned",
    [angles(5e5), angles(factor=4.0), angles(head=8), angles().to(torch.bfloat16) * 1.1],
)
def test_angles_that_the_config_does_not_say_make_it_another_model(turned):
    assert found(turned=turned) == "its positions are not turned as its `config.json` says"


def test_angles_are_compared_as_their_type_has_them():
    assert not isinstance(found(turned=angles().to(torch.bfloat16)), str)


@pytest.mark.parametrize(
    ("name", "extra", "strange"),
    [
        ("LlamaForCausalLM", {"extra.weight": (1,)}, "model.layers.0.extra.weight"),
        ("LlamaForCausalLM", NORMS, "model.layers.0.self_attn.q_norm.weight"),
        (
            "LlamaForCausalLM",
            {"input_layernorm.bias": (48,)},
            "model.layers.0.input_layernorm.bias",
        ),
        ("Qwen2ForCausalLM", {"mlp.up_proj.bias": (96,)}, "model.layers.0.mlp.up_proj.bias"),
        (
            "Qwen3ForCausalLM",
            {**NORMS, "self_attn.q_proj.bias": (64,)},
            "model.layers.0.self_attn.q_proj.bias",
        ),
    ],
)
def test_a_tensor_without_a_name_makes_it_another_model(name, extra, strange):
    assert f"`{strange}` is not a tensor of" in found(shapes(extra), architectures=[name])


def test_biases_have_names_where_they_are_loaded():
    biased = {"self_attn.q_proj.bias": (64,), "self_attn.k_proj.bias": (32,)}
    for name in ("LlamaForCausalLM", "Qwen2ForCausalLM"):
        assert not isinstance(found(shapes(biased), architectures=[name]), str)


@pytest.mark.parametrize(
    "change",
    [
        {"model.embed_tokens.weight": (320, 40)},
        {"lm_head.weight": (300, 48)},
        {"model.norm.weight": (40,)},
        {"model.layers.1.self_attn.k_proj.weight": (48, 48)},
        {"model.layers.1.mlp.up_proj.weight": (90, 48)},
        {"model.layers.1.self_attn.q_proj.bias": (3,)},
        {"model.layers.0.self_attn.q_proj.weight": (64, 48, 1)},
        {"model.layers.3.input_layernorm.weight": (48,)},
    ],
)
def test_tensors_of_other_sizes_are_another_model(change):
    assert found(shapes() | change) == "its tensors have not the sizes of its heads"


def test_no_table_of_words_and_no_json():
    assert "`model.embed_tokens.weight`" in found({"model.norm.weight": (48,)})
    assert "in `config.json`, `it`" in language_model(b"[", shapes(), None)

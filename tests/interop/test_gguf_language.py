"""Which models llama.cpp knows by name, and what is told of them."""

import json

import pytest

from qcompile.interop.gguf_language import language_model

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
"""As hand-written ones are: what has a default is not in it."""
SHAPES = {
    "model.embed_tokens.weight": (320, 64),
    "model.layers.0.self_attn.q_proj.weight": (64, 64),
    "model.norm.weight": (64,),
}


def found(shapes=SHAPES, **changes):
    document = {key: value for key, value in (CONFIG | changes).items() if value is not None}
    return language_model(json.dumps(document).encode(), shapes)


def test_defaults_of_a_short_config():
    told = found().hyperparameters
    assert told["llama.attention.head_count_kv"] == 4
    assert told["llama.attention.key_length"] == 16
    assert told["llama.rope.freq_base"] == 10_000.0
    assert told["llama.attention.layer_norm_rms_epsilon"] == 1e-5
    assert "llama.rope.scaling.type" not in told


@pytest.mark.parametrize(
    "said",
    [
        {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 4}},
    ],
)
def test_positions_in_the_words_of_older_and_newer_configs(said):
    told = found(**said).hyperparameters
    assert told["llama.rope.freq_base"] == 5e5
    assert told["llama.rope.scaling.type"] == "linear"
    assert told["llama.rope.scaling.factor"] == 4.0


def test_names_and_rows():
    model = found(num_key_value_heads=2)
    assert model.name("model.layers.11.mlp.down_proj.weight") == "blk.11.ffn_down.weight"
    assert model.name("lm_head.weight") == "output.weight"
    order = model.row_order("model.layers.0.self_attn.q_proj.weight", 64).tolist()
    assert order[:4] == [0, 8, 1, 9]
    assert order[16:18] == [16, 24]
    assert sorted(order) == list(range(64))
    assert model.row_order("model.layers.0.self_attn.k_proj.bias", 32).tolist()[:2] == [0, 8]
    assert model.row_order("model.layers.0.self_attn.v_proj.weight", 32) is None
    other = found(architectures=["Qwen2ForCausalLM"])
    assert other.row_order("model.layers.0.self_attn.q_proj.weight", 64) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "`GPT2LMHeadModel` is none of the architectures"),
        ({"architectures": []}, "`none` is none of the architectures"),
        ({"rms_norm_eps": None}, "`rms_norm_eps`: field required"),
        ({"hidden_act": "gelu"}, "its activation is `gelu`"),
        ({"partial_rotary_factor": 0.5}, "it rotates a part of each head"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "of the type `yarn`"),
        ({"rope_scaling": {"type": "linear", "factor": "x"}}, "in `config.json`, `factor`"),
        ({"sliding_window": 64}, "a sliding window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "a sliding window"),
    ],
)
def test_what_has_no_name_is_told(changes, why):
    assert why in found(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"sliding_window": 64, "use_sliding_window": False},
        {"sliding_window": 64, "layer_types": ["full_attention"]},
    ],
)
def test_a_window_that_is_not_used_is_none(changes):
    assert not isinstance(found(**changes), str)


def test_a_tensor_without_a_name_makes_it_another_model():
    assert "`model.layers.0.extra.weight`" in found(SHAPES | {"model.layers.0.extra.weight": (1,)})
    assert "`model.embed_tokens.weight`" in found({"model.norm.weight": (64,)})
    assert "in `config.json`, `it`" in language_model(b"[", SHAPES)

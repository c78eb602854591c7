"""``hf:DIR``: a checkpoint on disk, or its config alone."""

import json
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, ViTConfig, ViTModel

from qcompile.data.model_source import load_empty_model, load_model
from qcompile.driver.plan import plan_recipe

CONFIG = LlamaConfig(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=64,
    num_attention_heads=4,
    num_key_value_heads=2,
    num_hidden_layers=2,
    max_position_embeddings=64,
)
RECIPE = """qrecipe 1
model "hf:llama"
scheme w4 { weight int4 symmetric per_group(16) }
policy main {
  use w4 for linear
  skip "lm_head"
}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "qcompile.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.qrecipe").write_text(RECIPE)
    return tmp_path


def save(folder):
    torch.manual_seed(0)
    model = LlamaForCausalLM(CONFIG).eval()
    model.save_pretrained(folder / "llama")
    return model


def save_config(folder, **changes):
    (folder / "llama").mkdir(exist_ok=True)
    document = {"architectures": ["LlamaForCausalLM"], **CONFIG.to_dict(), **changes}
    (folder / "llama" / "config.json").write_text(json.dumps(document))


def codes(problems):
    return [problem.code.number for problem in problems]


def test_checkpoint_is_loaded_with_its_weights(folder):
    model = save(folder)
    loaded, problems = load_model("hf:llama", root=folder)
    assert not problems
    assert loaded is not None
    ids = torch.arange(6).reshape(1, 6)
    with torch.no_grad():
        expected = model(ids, use_cache=False).logits
        assert torch.equal(loaded.module(ids).logits, expected)


def test_preview_of_a_config_decides_as_the_plan_of_the_checkpoint(folder):
    save(folder)
    whole = plan_recipe(folder / "r.qrecipe").plan.core
    (folder / "llama" / "model.safetensors").unlink()
    early = plan_recipe(folder / "r.qrecipe", preview=True).plan.core
    assert early.sites == whole.sites
    assert early.units == whole.units
    assert len(early.sites) == 2 * 7 + 1


def test_bytes_of_a_preview_count_the_type_of_the_checkpoint(folder):
    save_config(folder)
    single = plan_recipe(folder / "r.qrecipe", preview=True).plan.core.bytes_before
    save_config(folder, dtype="bfloat16")
    half = plan_recipe(folder / "r.qrecipe", preview=True).plan.core.bytes_before
    assert single / 2 <= half < single * 0.52  # the table of positions stays in float32


def test_example_of_an_image_model_follows_its_config(folder):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = ViTConfig(**sizes, num_attention_heads=2, image_size=8, patch_size=4, num_channels=1)
    config.architectures = ["ViTModel"]
    config.save_pretrained(folder / "vit")
    loaded, _ = load_empty_model("hf:vit", root=folder)
    assert loaded is not None
    assert isinstance(loaded.module, ViTModel)
    assert [tuple(x.shape) for x in loaded.example_inputs] == [(2, 1, 8, 8)]


def test_config_without_weights_is_no_model(folder):
    save_config(folder)
    loaded, problems = load_model("hf:llama", root=folder)
    assert loaded is None
    assert codes(problems) == ["QR522"]
    assert "--preview" in problems[0].help


def test_pickled_weights_are_not_read(folder):
    save_config(folder)
    torch.save({}, folder / "llama" / "pytorch_model.bin")
    loaded, problems = load_model("hf:llama", root=folder)
    assert loaded is None
    assert codes(problems) == ["QR522"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": None}, "names no `architectures`"),
        ({"architectures": ["LlamaForCausalLN"]}, "has no model `LlamaForCausalLN`"),
        ({"architectures": ["AutoConfig"]}, "has no model `AutoConfig`"),
    ],
)
def test_config_that_names_no_model_of_the_package(folder, changes, words):
    save_config(folder, **changes)
    _, problems = load_empty_model("hf:llama", root=folder)
    assert codes(problems) == ["QR520"]
    assert words in problems[0].message


def test_folder_without_config_and_text_that_is_no_json(folder):
    for text in (None, "{"):
        (folder / "llama").mkdir(exist_ok=True)
        if text is not None:
            (folder / "llama" / "config.json").write_text(text)
        _, problems = load_empty_model("hf:llama", root=folder)
        assert codes(problems) == ["QR520"]


def test_arguments_are_refused(folder):
    _, problems = load_empty_model("hf:llama", args=(1,), root=folder)
    assert codes(problems) == ["QR520"]


def test_missing_extra_is_named(folder, monkeypatch):
    save_config(folder)
    monkeypatch.setitem(sys.modules, "transformers", None)
    _, problems = load_empty_model("hf:llama", root=folder)
    assert codes(problems) == ["QR520"]
    assert "qcompile[hf]" in problems[0].help

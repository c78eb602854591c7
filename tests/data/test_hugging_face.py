"""``hf:DIR``: a checkpoint on disk, or its config alone."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, ViTConfig, ViTModel
from transformers.utils import logging

import qcompile
from qcompile.data.model_source import load_empty_model, load_model
from qcompile.diagnostics.failure import CompileError
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
CALIBRATE = """calibrate {
  data = "safetensors:calib.safetensors"
  samples = 8
  batch = 4
  seed = 1
}
"""
FIXED = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 32)
        self.places = nn.Parameter(torch.ones(16, 32))
        self.head = nn.Linear(32, 4)

    def forward(self, ids):
        return self.head(self.table(ids) + self.places)

def model():
    return Model().eval()
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


def test_loading_a_checkpoint_prints_nothing_and_leaves_the_bars_on(folder, capfd):
    save(folder)
    capfd.readouterr()
    load_model("hf:llama", root=folder)
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()


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


def test_a_description_that_no_artifact_would_hold_is_refused(folder, monkeypatch):
    save(folder)
    (folder / "llama" / "tokenizer.json").write_text("{" + " " * 5_000 + "}")
    loaded, _ = load_model("hf:llama", root=folder)
    assert set(loaded.description) == {"config.json", "generation_config.json", "tokenizer.json"}
    monkeypatch.setattr("qcompile.data.hugging_face.MAX_DESCRIPTION_BYTES", 5_000)
    loaded, problems = load_model("hf:llama", root=folder)
    assert loaded is None
    assert codes(problems) == ["QR520"]
    assert "`tokenizer.json` of the model cannot be read: it is larger" in problems[0].message


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


def test_texts_may_be_longer_than_the_example(folder):
    model = save(folder)
    tokens = torch.randint(0, 97, (8, 24), generator=torch.Generator().manual_seed(0))
    save_file({"input_ids": tokens}, folder / "calib.safetensors")
    (folder / "r.qrecipe").write_text(RECIPE + CALIBRATE + "tune hybrid\n")
    quantized = qcompile.run(plan_recipe(folder / "r.qrecipe").plan, folder / "out")
    for length in (24, 40):
        ids = torch.randint(0, 97, (3, length), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            ours, theirs = quantized(ids)["logits"], model(ids, use_cache=False).logits
        assert ours.shape == theirs.shape
        assert 0 < (ours - theirs).norm() / theirs.norm() < 0.3


def test_forecast_of_a_preview_is_of_texts_as_long_as_the_example(folder):
    save_config(folder)
    (folder / "r.qrecipe").write_text(RECIPE + CALIBRATE)
    planned = plan_recipe(folder / "r.qrecipe", preview=True, forecast=True)
    assert planned.bound.expected["input_ids"][1] == (None, None)
    forecast = planned.plan.beside.forecast
    assert forecast is not None
    hidden = 8 * 16 * CONFIG.hidden_size * 4
    assert max(unit.streams_bytes for unit in forecast.units) >= hidden


BRANCHING = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(9, 32)
        self.places = nn.Embedding(30, 32)
        self.head = nn.Linear(32, 4)

    def forward(self, ids, mask=None):
        x = self.table(ids) + self.places(torch.arange(ids.shape[1]))
        if ids.shape[1] > 40:
            x = x * 0
        return self.head(x if mask is None else x * mask.unsqueeze(-1))

def model():
    return Model().eval()
"""
SIZES = {"ids": "int64[batch, seq]", "mask": "int64[batch, seq]"}


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ({"ids": 24}, None),
        ({"ids": 48}, "it holds for `ids.shape[1] <= 40`"),
        ({"ids": 24, "mask": 20}, "the model cannot take a batch of"),
        ({"ids": 36}, "the model cannot take a batch of `safetensors:calib.safetensors`: [4, 36]"),
    ],
)
def test_data_on_the_other_side_of_a_branch_is_refused(folder, lengths, words):
    (folder / "own.py").write_text(BRANCHING)
    tensors = {name: torch.ones(8, length, dtype=torch.int64) for name, length in lengths.items()}
    save_file(tensors, folder / "calib.safetensors")
    inputs = ", ".join(f"{name} = {SIZES[name]}" for name in lengths)
    recipe = RECIPE.replace('"hf:llama"', f'"own:model" {{ inputs = {{ {inputs} }} }}')
    recipe = recipe.replace('  skip "lm_head"\n', "") + CALIBRATE
    (folder / "r.qrecipe").write_text(recipe)
    if words is None:
        qcompile.run(plan_recipe(folder / "r.qrecipe").plan, folder / "out")
        return
    with pytest.raises(CompileError) as failure:
        qcompile.run(plan_recipe(folder / "r.qrecipe").plan, folder / "out")
    (problem,) = failure.value.diagnostics
    assert problem.code.number == "QR702"
    assert words in problem.message
    assert problem.help


def test_a_length_that_the_model_fixes_is_kept(folder):
    (folder / "fixed.py").write_text(FIXED)
    tokens = torch.zeros(8, 24, dtype=torch.int64)
    save_file({"ids": tokens}, folder / "calib.safetensors")
    declared = 'model "fixed:model" { inputs = { ids = int64[batch, seq] } }'
    recipe = RECIPE.replace('model "hf:llama"', declared).replace('  skip "lm_head"\n', "")
    (folder / "r.qrecipe").write_text(recipe + CALIBRATE)
    with pytest.raises(CompileError) as failure:
        plan_recipe(folder / "r.qrecipe")
    assert codes(failure.value.diagnostics) == ["QR702"]
    assert "[*, 16]" in failure.value.diagnostics[0].message

"""``init`` writes recipes that hold as they are, for each family that has a library."""

import pytest
from click.testing import CliRunner
from transformers import BertConfig, LlamaConfig, ViTConfig

from qcompile.cli.main import main
from qcompile.data.purpose import DATA
from qcompile.data.reference import parse_reference
from qcompile.driver.format import format_file
from qcompile.driver.front import check
from qcompile.driver.plan import plan_recipe
from qcompile.driver.starting_recipe import PLACEHOLDER
from qcompile.zoo.catalogue import MODELS, zoo_data

NETS = """
from torch import nn


def mlp():
    layers = nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)
    return nn.Sequential(*layers).eval()


def depthwise():
    convs = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1)
    return nn.Sequential(*convs, nn.Flatten(), nn.Linear(8 * 4 * 4, 4)).eval()


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(8, 4) for _ in range(3))

    def forward(self, x):
        return tuple(head(x) for head in self.heads)


def heads():
    return Heads().eval()


def one_layer():
    return nn.Linear(8, 4).eval()


def no_layer():
    return nn.Sequential(nn.LayerNorm(8), nn.ReLU()).eval()


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids, weight):
        return self.head((self.words(ids) * weight.unsqueeze(-1)).sum(1))


def bag():
    return Bag().eval()


class Words(nn.Module):
    # a score for each of 97 words

    def __init__(self, width, tied=False):
        super().__init__()
        self.words = nn.Embedding(97, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, 97, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids):
        x = self.words(ids)
        return self.head(x + self.down(self.up(x).tanh()))


def words():
    return Words(32).eval()


def tied_words():
    return Words(32, tied=True).eval()


def odd_words():
    return Words(36).eval()
"""
WORDS = ("--input", "int64[batch, seq]")
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
}
PLACES = {"max_position_embeddings": 48}
LLAMA = {**SIZES, "vocab_size": 97, "num_key_value_heads": 2, "max_position_embeddings": 64}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qcompile.toml").write_text("")
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def init(*arguments):
    result = CliRunner().invoke(main, ["init", *arguments])
    assert "internal error" not in result.output
    return result


def written(folder, name, *arguments):
    """The recipe's path, once nothing was said against it and nothing is to be laid out anew."""
    result = init(*arguments)
    assert result.exit_code == 0, result.stderr
    assert "warning" not in result.stderr
    path = folder / name
    assert check(path).diagnostics == ()
    assert not format_file(path).is_changed
    return path


def bits(path):
    return bits_in(plan_recipe(path, preview=True).plan.core)


def bits_in(core):
    """Weight bits by key, of layers that are quantized."""
    return {
        site.key: tensor.spec.bits
        for site in core.sites
        for tensor in site.tensors
        if tensor.slot == "weight" and tensor.spec is not None
    }


def save_config(folder, name, config, architecture):
    config.architectures = [architecture]
    config.save_pretrained(folder / name)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_recipe_for_a_model_of_the_zoo_is_planned_without_a_word(folder, model):
    path = written(folder, f"{model.name}.qrecipe", f"zoo:{model.name}")
    planned = plan_recipe(path)
    assert planned.diagnostics == ()
    first, *inner, last = bits_in(planned.plan.core).values()
    assert (first, set(inner), last) == (8, {4}, 8)
    assert planned.plan.core.evaluations


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_data_of_each_model_of_the_zoo_is_there(model):
    assert zoo_data(f"{model.data}/calib") is not None
    assert zoo_data(f"{model.data}/test") is not None


def test_language_model_gets_groups_that_divide_its_layers_and_eight_bits_for_its_own_head(folder):
    save_config(
        folder, "llama", LlamaConfig(**LLAMA, tie_word_embeddings=False), "LlamaForCausalLM"
    )
    path = written(folder, "llama.qrecipe", "hf:llama")
    assert "group = 32" in path.read_text()
    assert 'data = "text:calibration.txt"' in path.read_text()
    assert 'evaluate perplexity {\n  data = "text:test.txt"' in path.read_text()
    found = bits(path)
    assert found.pop("lm_head") == 8
    assert len(found) == 7
    assert set(found.values()) == {4}


def test_texts_are_no_longer_than_the_model_takes(folder):
    save_config(folder, "llama", LlamaConfig(**LLAMA | PLACES), "LlamaForCausalLM")
    text = written(folder, "llama.qrecipe", "hf:llama").read_text()
    assert text.count("seq_len = 48") == 2


def test_texts_are_for_models_that_take_ids_alone(folder):
    save_config(folder, "llama", LlamaConfig(**LLAMA), "LlamaForCausalLM")
    shapes = [f"{name}=int64[batch, seq]" for name in ("input_ids", "attention_mask")]
    inputs = [word for shape in shapes for word in ("--input", shape)]
    text = written(folder, "llama.qrecipe", "hf:llama", *inputs).read_text()
    assert f'data = "{PLACEHOLDER}"' in text


def test_head_that_is_the_table_of_words_stays_as_it_is(folder):
    assert bits(written(folder, "words.qrecipe", "nets:words", *WORDS))["head"] == 8
    assert "head" not in bits(written(folder, "tied_words.qrecipe", "nets:tied_words", *WORDS))


def test_language_model_whose_widths_no_group_divides_gets_eight_bits(folder):
    found = bits(written(folder, "odd_words.qrecipe", "nets:odd_words", *WORDS))
    assert set(found.values()) == {8}


def test_model_of_words_without_a_score_for_each_is_an_encoder(folder):
    """Projections that read what the first layer reads keep its bits."""
    save_config(
        folder, "bert", BertConfig(**SIZES | {"num_hidden_layers": 2}, vocab_size=97), "BertModel"
    )
    path = written(folder, "bert.qrecipe", "hf:bert")
    assert 'import "std:encoder"' in path.read_text()
    assert 'data = "text:calibration.txt"' in path.read_text()
    assert "evaluate" not in path.read_text()
    found = bits(path)
    assert set(found.values()) == {4, 8}
    inner = "encoder.layer.{}.attention.self.{}"
    parts = ("query", "key", "value")
    assert {found[inner.format(0, part)] for part in parts} == {8}
    assert {found[inner.format(1, part)] for part in parts} == {4}


def test_attention_over_patches_is_a_vision_transformer(folder):
    config = ViTConfig(**SIZES, image_size=8, patch_size=4)
    save_config(folder, "vit", config, "ViTForImageClassification")
    path = written(folder, "vit.qrecipe", "hf:vit")
    assert 'import "std:vit"' in path.read_text()


def test_inputs_that_are_said_are_those_of_the_recipe(folder):
    path = written(folder, "mlp.qrecipe", "nets:mlp", "--input", "float32[batch, 8]")
    assert "input = float32[batch, 8]" in path.read_text()
    assert bits(path) == {"0": 8, "2": 4, "4": 8}
    assert f'data = "{PLACEHOLDER}"' in path.read_text()


def test_several_inputs_have_names(folder):
    shapes = ("--input", "ids=int64[batch, seq]", "--input", "weight=float32[batch, seq]")
    path = written(folder, "bag.qrecipe", "nets:bag", *shapes)
    assert [item.name for item in check(path).recipe.model.inputs] == ["ids", "weight"]
    assert init("nets:bag", "--force", *shapes[:2], "--input", "float32[2]").exit_code == 2


def test_depthwise_layers_keep_eight_bits(folder):
    path = written(folder, "depthwise.qrecipe", "nets:depthwise", "--input", "float32[b, 3, 8, 8]")
    assert bits(path) == {"0": 8, "1": 8, "2": 4, "4": 8}


@pytest.mark.parametrize("net", ["one_layer", "heads"])
def test_model_of_ends_alone_gets_eight_bits(folder, net):
    path = written(folder, f"{net}.qrecipe", f"nets:{net}", "--input", "float32[batch, 8]")
    assert set(bits(path).values()) == {8}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nets:mlp"], "QR211", "--input"),
        (["nets:no_layer", "--input", "float32[batch, 8]"], "QR302", "neither a convolution"),
        (["nets:mlq", "--input", "float32[batch, 8]"], "QR520", "mlq"),
        (["nets:mlp", "--input", "float33[batch, 8]"], "QR410", "float33"),
        (["nets:mlp", "--input", "float32[batch, 9]"], "QR508", ""),
        (["zoo:resnet21"], "QR520", "resnet21"),
        (["resnet20"], "QR520", "resnet20"),
        (["hf:nowhere"], "QR520", "config.json"),
        (["safetensors:x"], "QR520", "safetensors"),
        (["zoo:resnet20", "-o", "missing/a.qrecipe"], "QR905", "missing"),
    ],
)
def test_what_cannot_be_looked_at_is_said_and_nothing_is_written(folder, arguments, code, words):
    result = init(*arguments)
    assert result.exit_code != 0
    assert f"error[{code}]" in result.stderr
    assert words in result.stderr
    assert list(folder.glob("**/*.qrecipe")) == []


def test_file_that_is_there_is_replaced_only_when_told(folder):
    path = folder / "resnet20.qrecipe"
    path.write_text("mine")
    result = init("zoo:resnet20")
    assert (result.exit_code, path.read_text()) == (1, "mine")
    assert "QR901" in result.stderr
    assert init("zoo:resnet20", "--force").exit_code == 0
    assert path.read_text().startswith("qrecipe 1\n")


def test_model_is_looked_up_from_the_folder_of_the_recipe(folder):
    (folder / "inner").mkdir()
    (folder / "nets.py").rename(folder / "inner" / "own_nets.py")
    shape = ("--input", "float32[batch, 8]")
    path = written(folder, "inner/own.qrecipe", "own_nets:mlp", "-o", "inner/own.qrecipe", *shape)
    assert 'model "own_nets:mlp"' in path.read_text()


def test_placeholder_is_a_legal_reference():
    assert str(parse_reference(PLACEHOLDER, DATA)) == PLACEHOLDER

"""A language model is calibrated and measured on texts, with the tokenizer of its own folder."""

import json
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

import qcompile
from qcompile.cli.main import main
from qcompile.driver.plan import plan_recipe

WORDS = 97
RECIPE = """qrecipe 1
model "hf:llama"
scheme w4 { weight int4 symmetric per_group(16) }
policy main {
  use w4 for linear
  skip "lm_head"
}
calibrate {
  data = "text:calib.txt"
  samples = 8
  batch = 4
  seq_len = 20
  seed = 1
}
evaluate perplexity {
  data = "text:test.txt"
  seq_len = 24
}
tune hybrid
require perplexity_ratio <= 2
"""
OWN = """
from transformers import LlamaForCausalLM

def model():
    return LlamaForCausalLM.from_pretrained("llama", use_cache=False).eval()
"""


def text(count, seed):
    drawn = torch.randint(0, WORDS, (count,), generator=torch.Generator().manual_seed(seed))
    return drawn, " ".join(f"w{word}" for word in drawn.tolist())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llm")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=WORDS, **sizes, **heads)).save_pretrained(
        folder / "llama"
    )
    tokenizer = Tokenizer(WordLevel({f"w{at}": at for at in range(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / "llama" / "tokenizer.json"))
    (folder / "qcompile.toml").write_text("")
    (folder / "r.qrecipe").write_text(RECIPE)
    (folder / "calib.txt").write_text(text(300, 1)[1])
    (folder / "test.txt").write_text(text(100, 2)[1])
    return folder


@pytest.fixture(scope="module")
def artifact(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = CliRunner().invoke(main, ["run", "r.qrecipe", "-o", "out", "-q"])
    assert result.exit_code == 0, result.output
    return folder / "out"


def perplexity(module, ids):
    """Of windows ``[n, length]``, token by token."""
    with torch.no_grad():
        found = module(ids)
    logits = found["logits"].double()
    return math.exp(F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()))


def measured(*words):
    result = CliRunner().invoke(main, ["eval", "out", "--json", *words])
    assert result.exit_code == 0, result.output
    return {row["metric"]: row for row in json.loads(result.stdout)["results"]}


def test_the_plan_says_which_windows_are_seen(folder, monkeypatch):
    monkeypatch.chdir(folder)
    plan = plan_recipe(Path("r.qrecipe")).plan
    assert plan.core.data is not None
    assert (plan.core.data.reference, plan.core.data.seq_len) == ("text:calib.txt", 20)
    assert max(plan.core.data.indices) < 300 // 20
    assert plan.core.evaluations[0].seq_len == 24


def test_perplexity_is_that_of_the_windows_of_the_text(artifact, monkeypatch):
    monkeypatch.chdir(artifact.parent)
    ids = text(100, 2)[0][:96].reshape(4, 24)
    rows = measured("--float")
    quantized, plain = qcompile.load(artifact), LlamaForCausalLM.from_pretrained("llama")
    assert rows["perplexity"]["samples"] == 4
    assert rows["perplexity"]["value"] == pytest.approx(perplexity(quantized, ids), rel=1e-6)
    expected = perplexity(plain, ids)
    assert rows["perplexity"]["reference_value"] == pytest.approx(expected, rel=1e-6)


def test_another_text_in_windows_of_another_length(artifact, monkeypatch):
    monkeypatch.chdir(artifact.parent)
    words = ("--data", "text:calib.txt", "--metric", "perplexity", "--seq-len", "30")
    ids = text(300, 1)[0].reshape(10, 30)
    found = measured(*words)["perplexity"]
    assert found["value"] == pytest.approx(perplexity(qcompile.load(artifact), ids), rel=1e-6)
    assert measured("--seq-len", "50")["perplexity"]["samples"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--metric", "top1", "--seq-len", "9"), "`top1` is of classes, not of texts"),
        (("--metric", "perplexity", "--seq-len", "1"), "`perplexity` needs two tokens of a text"),
    ],
)
def test_what_a_text_does_not_tell_is_refused(artifact, monkeypatch, words, message):
    monkeypatch.chdir(artifact.parent)
    result = CliRunner().invoke(main, ["eval", "out", "--data", "text:test.txt", *words])
    assert result.exit_code == 1
    assert f"error[QR713]: {message}" in result.output


def test_the_usual_metric_of_a_text(artifact, monkeypatch):
    monkeypatch.chdir(artifact.parent)
    assert list(measured("--data", "text:test.txt", "--seq-len", "9")) == ["perplexity"]


def test_requirements_are_measured_on_it(artifact):
    report = json.loads((artifact / "report.json").read_text())
    assert 0.5 < report["figures"]["perplexity_ratio"] < 2


def test_a_model_that_is_no_folder_has_no_tokenizer(folder, monkeypatch):
    monkeypatch.chdir(folder)
    Path("own.py").write_text(OWN)
    inputs = 'model "own:model" { inputs = { input_ids = int64[batch, seq] } }'
    Path("own.qrecipe").write_text(RECIPE.replace('model "hf:llama"', inputs))
    result = CliRunner().invoke(main, ["plan", "own.qrecipe"])
    assert result.exit_code == 1
    assert "error[QR710]: `text:calib.txt` needs a tokenizer" in result.output

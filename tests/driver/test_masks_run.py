"""Padding is in no range, fit or figure: a run on padded texts is that on the texts alone."""

import json

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from transformers import BertConfig, BertForTokenClassification

import qcompile
from qcompile.cli.main import main
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.plan import plan_recipe

FACTORIES = """
import torch
from torch import nn
from torch.nn import functional as F


class Encoder(nn.Module):
    def __init__(self, width=16, heads=2):
        super().__init__()
        self.heads = heads
        self.words = nn.Embedding(50, width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 32), nn.Linear(32, width)
        self.head = nn.Linear(width, 7)

    def forward(self, ids, attention_mask):
        x = self.words(ids)
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        seen = attention_mask[:, None, None, :] != 0
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, seen).transpose(1, 2).flatten(2))
        return self.head(x + self.down(torch.relu(self.up(x))))


class Explicit(Encoder):  # products of its own in place of torch's attention
    def forward(self, ids, attention_mask):
        x = self.words(ids)
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        hidden = attention_mask[:, None, None, :] == 0
        scores = torch.matmul(q, k.transpose(-2, -1)).masked_fill(hidden, -torch.inf)
        x = x + self.out(torch.matmul(scores.softmax(-1), v).transpose(1, 2).flatten(2))
        return self.head(x + self.down(torch.relu(self.up(x))))


class OfTorch(nn.Module):  # positions come first
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(50, 16), nn.Linear(16, 7)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32) for _ in range(2))

    def forward(self, ids, attention_mask):
        x = self.words(ids).transpose(0, 1)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=attention_mask == 0)
        return self.head(x).transpose(0, 1)


def made(kind, factor):  # what texts are padded with is far from all words
    torch.manual_seed(0)
    model = kind().eval()
    with torch.no_grad():
        model.words.weight[0] *= factor
    return model


class Turned(Encoder):  # positions in another order
    def forward(self, ids, attention_mask):
        return self.head(self.query(self.words(ids).flip(1)))


class Windows(Encoder):  # a convolution over positions
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(16, 16, 3, padding=1)

    def forward(self, ids, attention_mask):
        return self.head(self.conv(self.words(ids).transpose(1, 2)).transpose(1, 2))


class Last(Encoder):  # an output with fewer positions
    def forward(self, ids, attention_mask):
        return self.head(self.words(ids))[:, 1:]


class Flat(Encoder):  # samples and positions in one axis
    def forward(self, ids, attention_mask):
        return self.head(self.words(ids)).flatten(0, 1)


def turned():
    return made(Turned, 9)


def windows():
    return made(Windows, 9)


def last():
    return made(Last, 9)


def flat():
    return made(Flat, 9)


def encoder():
    return made(Encoder, 9)


def far():
    return made(Encoder, 90)


def explicit():
    return made(Explicit, 9)


def explicit_far():
    return made(Explicit, 90)


def of_torch():
    return made(OfTorch, 9)


def of_torch_far():
    return made(OfTorch, 90)


def ragged():
    lengths = torch.randint(3, 12, (64, 1), generator=torch.Generator().manual_seed(2))
    ids = torch.randint(1, 50, (64, 11), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(11) < lengths).long()
    return {"ids": ids * mask, "attention_mask": mask, "label": ids % 7}


def texts():
    ids = torch.randint(1, 50, (64, 6), generator=torch.Generator().manual_seed(1))
    return {"ids": ids, "attention_mask": torch.ones_like(ids), "label": ids % 7}


def padded():
    return {name: F.pad(value, (0, 5)) for name, value in texts().items()}


def empty():
    return padded() | {"attention_mask": torch.zeros(64, 11, dtype=torch.int64)}
"""
RECIPE = """qrecipe 1
model "factories:{model}" {{
  inputs = {{ ids = int64[batch, seq], attention_mask = int64[batch, seq] }}
}}
scheme w3a8 {{
  weight int3
  act uint8 asymmetric observer=minmax
  act2 uint8 asymmetric observer=minmax
}}
policy main {{ use w3a8 for linear or attention or matmul }}
calibrate {{
  data = "factories:{data}"
  samples = 64
  batch = 16
  seed = 1
  labels = "label"
  {mask}
}}
evaluate top1 {{
  data = "factories:{data}"
  labels = "label"
  {mask}
}}
{tune}
"""
PLAIN = """
import torch
from torch import nn
from factories import padded


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(50, 16), nn.Linear(16, 7)

    def forward(self, ids):
        return self.head(self.words(ids))


def words():
    torch.manual_seed(0)
    return Words().eval()
"""
BARE = """
from factories import padded, texts


def texts_only():
    return {name: value for name, value in texts().items() if name != "label"}


def padded_only():
    return {name: value for name, value in padded().items() if name != "label"}
"""
INPUTS = " {\n  inputs = { ids = int64[batch, seq], attention_mask = int64[batch, seq] }\n}"
SCHEMES = """scheme w8 { weight int8 }
scheme w4 { weight int4 }
budget { avg_bits(weight) <= 6 }
"""
CHOOSE = "choose w4, w8 for linear"
MASK = 'mask = "attention_mask"'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    (folder / "qcompile.toml").write_text("")
    (folder / "factories.py").write_text(FACTORIES)
    return folder


def recipe_of(data, mask, tune, model="encoder"):
    text = RECIPE.format(model=model, data=data, mask=mask, tune=tune)
    return text if "explicit" in model else text.replace(" or matmul", "")


def run(folder, name, data, mask, tune, model="encoder"):
    """The artifact."""
    recipe = folder / f"{name}.qrecipe"
    recipe.write_text(recipe_of(data, mask, tune, model))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = CliRunner().invoke(main, ["run", recipe.name, "-o", name, "--replace", "-q"])
    assert result.exit_code == 0, result.output
    return folder / name


def unlike(one, other):
    """The share of codes that differ, and the largest relative difference of a scale."""
    ours, theirs = (load_file(path / "model.safetensors") for path in (one, other))
    codes = [name for name in ours if name.endswith(":codes")]
    scales = [name for name in ours if "scale" in name]
    assert codes
    assert scales
    differing = torch.cat([(ours[n] != theirs[n]).flatten() for n in codes]).float().mean()
    ratios = torch.cat([(ours[n] / theirs[n] - 1).abs().flatten() for n in scales])
    return float(differing), float(ratios.max())


def errors(artifact):
    """Of each site's output, in the order of the graph."""
    report = json.loads((artifact / "report.json").read_text())
    return [site["output_error"] for unit in report["units"] for site in unit["sites"]]


EXACT = (0, 1e-5)
"""Shares of codes, and of scales, that last bits may move."""


@pytest.mark.parametrize(
    ("tune", "most"),
    [
        ("", EXACT),
        ("tune gptaq", EXACT),
        ("prepare smoothquant", EXACT),
        ("prepare rotate { balance = true }", EXACT),
        # the direction in which outputs are looked at is drawn for each position
        ("tune hybrid", (0.05, 0.1)),
        # steps carry last bits on
        ("tune brecq { steps = 40; samples = 64; precision = fp32 }", (0.05, 0.1)),
    ],
)
def test_a_run_on_padded_texts_is_that_on_the_texts(folder, tune, most):
    plain = run(folder, "plain", "texts", MASK, tune)
    masked = run(folder, "masked", "padded", MASK, tune)
    blind = run(folder, "blind", "padded", "", tune)
    codes, scales = unlike(masked, plain)
    assert codes <= most[0]
    assert scales <= most[1]
    assert unlike(blind, plain)[1] > 3  # ranges are of what texts are padded with
    assert errors(masked) == pytest.approx(errors(plain), rel=0.02)
    assert errors(blind) != pytest.approx(errors(plain), rel=0.5)


LEARNED = "samples = 64; steps = 20; precision = fp32"


@pytest.mark.parametrize(
    ("model", "tune"),
    [
        ("encoder", ""),
        ("encoder", "tune hybrid { loss = fisher }"),
        ("encoder", f"tune brecq {{ {LEARNED} }}"),
        ("encoder", f"tune brecq {{ {LEARNED}; loss = fisher }}"),
        ("encoder", f"tune brecq {{ {LEARNED}; loss = fisher_full }}"),
        ("encoder", f"tune brecq {{ {LEARNED}; loss = perturbation }}"),
        ("encoder", f"tune brecq {{ {LEARNED}; loss = mse + prediction }}"),
        ("encoder", f"tune brecq {{ {LEARNED}; loss = trimmed(1%) + huber + cosine }}"),
        ("encoder", f"tune brecq {{ {LEARNED}; select = salient(20%) }}"),
        ("encoder", f"tune qdrop {{ {LEARNED} }}"),
        ("explicit", ""),
        ("explicit", "tune hybrid"),
        ("of_torch", ""),
        ("of_torch", "tune hybrid { loss = fisher }"),
        ("of_torch", f"tune brecq {{ {LEARNED} }}"),
        ("of_torch", "prepare smoothquant"),
    ],
)
def test_what_is_masked_has_no_effect_whatever_it_is(folder, model, tune):
    """Texts of all lengths, padded with two different words."""
    far = {"encoder": "far"}.get(model, f"{model}_far")
    one = run(folder, "one", "ragged", MASK, tune, model)
    other = run(folder, "other", "ragged", MASK, tune, far)
    ours, theirs = (load_file(path / "model.safetensors") for path in (one, other))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if "words" not in name:
            assert torch.equal(value, theirs[name]), name
    assert errors(one) == errors(other)


def test_a_choice_of_bits_is_one_of_own_positions(folder):
    """`choose` measures what quantizing each layer costs the outputs."""
    chosen = []
    for model in ("encoder", "far"):
        text = recipe_of("ragged", MASK, "", model)
        text = text.replace("use w3a8 for linear or attention", CHOOSE)
        text = text.replace("policy main", SCHEMES + "policy main")
        (folder / "choice.qrecipe").write_text(text)
        plan = plan_recipe(folder / "choice.qrecipe").plan
        assert plan.beside.choice is not None
        chosen.append(plan.beside.choice.loss_increase)
    assert chosen[0] == chosen[1]


def test_figures_are_of_own_positions(folder):
    artifact = run(folder, "figures", "padded", MASK, "")
    given = {"root": folder, "metrics": ["top1", "agreement", "sqnr"], "labels": "label"}
    reference = plan_recipe(folder / "figures.qrecipe").bound.model
    masked = qcompile.evaluate(artifact, reference=reference, root=folder, metrics=given["metrics"])
    plain = qcompile.evaluate(artifact, reference=reference, data="factories:texts", **given)
    blind = qcompile.evaluate(artifact, reference=reference, data="factories:padded", **given)
    assert [one.value for one in masked] == pytest.approx([one.value for one in plain], rel=1e-5)
    assert [one.value for one in blind] != pytest.approx([one.value for one in plain], rel=1e-3)


def test_the_command_is_told_of_the_mask_of_other_data(folder):
    run(folder, "told", "padded", MASK, "")
    (folder / "bare.py").write_text(BARE)
    shown = []
    for data, arguments in (
        ("texts", ()),
        ("padded", ("--mask", "attention_mask")),
        ("padded", ()),
    ):
        given = ["eval", "told", "--float", "--data", f"bare:{data}_only", "--metric", "agreement"]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            result = CliRunner().invoke(main, [*given, *arguments])
        assert result.exit_code == 0, result.output
        shown.append(result.output.split()[1])
    assert shown[0] == shown[1] != shown[2]


def test_the_plan_names_the_mask_and_differs_by_it(folder):
    run(folder, "masked", "padded", MASK, "")
    run(folder, "blind", "padded", "", "")
    masked, blind = (
        plan_recipe(folder / f"{name}.qrecipe").plan.core.data for name in ("masked", "blind")
    )
    assert masked is not None
    assert blind is not None
    assert (masked.mask, blind.mask) == ("attention_mask", None)
    assert "mask" not in blind.model_dump(mode="json")


def test_a_model_that_takes_no_mask_may_have_one(folder):
    """It says the same of a model that minds its padding in no other way."""
    (folder / "plain_model.py").write_text(PLAIN)
    recipe = recipe_of("padded", MASK, "").replace(" or attention", "")
    recipe = recipe.replace("factories:encoder", "plain_model:words")
    recipe = recipe.replace("factories:", "plain_model:")
    (folder / "words.qrecipe").write_text(recipe.replace(INPUTS, ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for arguments in (["run", "words.qrecipe", "-o", "words"], ["eval", "words", "--float"]):
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("model", "data", "mask", "tune", "words"),
    [
        ("encoder", "padded", 'mask = "attention"', "", "has no tensor `attention`"),
        ("encoder", "empty", MASK, "", "has a sample that `attention_mask` masks whole"),
        (
            "encoder",
            "padded",
            MASK,
            "tune brecq { augment = mixup }",
            "`augment = mixup` would mix",
        ),
        ("turned", "padded", MASK, "", "where `query` has its padding cannot be told"),
        ("windows", "padded", MASK, "", "the convolution `conv` mixes positions"),
        ("last", "padded", MASK, f"tune brecq {{ {LEARNED}; loss = kl }}", "cannot be told"),
    ],
)
def test_a_mask_that_cannot_be_kept_to_is_refused_by_the_plan(
    folder, model, data, mask, tune, words
):
    text = recipe_of(data, mask, tune, model)
    if model == "windows":
        text = text.replace("for linear", "for conv")
    (folder / "bad.qrecipe").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = CliRunner().invoke(main, ["plan", "bad.qrecipe"])
    assert result.exit_code == 1
    assert "QR719" in result.output
    assert words in " ".join(result.output.split())


def plan_of_batches(folder, model, samples, batch):
    """Of a graph that holds for no other number of samples."""
    text = recipe_of("padded", MASK, "", model)
    text = text.replace("int64[batch, seq]", f"int64[{batch}, seq]")
    text = text.replace("samples = 64\n  batch = 16", f"samples = {samples}\n  batch = {batch}")
    text = text.replace("evaluate top1 {", f"evaluate top1 {{\n  batch = {batch}")
    (folder / "fixed.qrecipe").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return CliRunner().invoke(main, ["plan", "fixed.qrecipe"])


@pytest.mark.parametrize("model", ["encoder", "of_torch"])
def test_a_graph_of_so_many_samples_is_looked_at_with_as_many(folder, model):
    result = plan_of_batches(folder, model, 60, 20)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("model", ["encoder", "of_torch"])
def test_samples_are_not_taken_for_the_channels_of_which_there_are_as_many(folder, model):
    result = plan_of_batches(folder, model, 64, 16)
    assert result.exit_code == 1, result.output
    assert "has its padding cannot be told" in " ".join(result.output.split())


def test_outputs_whose_positions_are_not_told_are_not_measured(folder):
    artifact = run(folder, "flat", "padded", MASK, "", "flat")
    with pytest.raises(CompileError) as caught:
        qcompile.evaluate(artifact, root=folder)
    (found,) = caught.value.diagnostics
    assert found.code is Code.MASK
    assert "where outputs [352, 7] have their positions cannot be told" in found.message


BERT = """qrecipe 1
model "hf:bert" {{
  {inputs}
}}
scheme w8 {{ weight int8 }}
policy main {{ use w8 for linear }}
calibrate {{
  data = "bert_data:texts"
  samples = 8
  seed = 1
  mask = "attention_mask"
}}
evaluate agreement {{
  data = "bert_data:texts"
  mask = "attention_mask"
}}
"""
BERT_INPUTS = "inputs = { input_ids = int64[batch, seq], attention_mask = int64[batch, seq] }"
BERT_DATA = """
import torch

def texts():
    ids = torch.randint(1, 50, (8, 9))
    return {"input_ids": ids, "attention_mask": (torch.arange(9) < 5).long().expand(8, 9)}
"""


def test_a_mask_that_the_graph_was_captured_without_is_not_dropped(folder):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 16}
    config = BertConfig(vocab_size=50, num_hidden_layers=1, num_attention_heads=2, **sizes)
    BertForTokenClassification(config).save_pretrained(folder / "bert")
    (folder / "bert_data.py").write_text(BERT_DATA)
    for inputs, code in (("", 1), (BERT_INPUTS, 0)):
        (folder / "bert.qrecipe").write_text(BERT.format(inputs=inputs))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            result = CliRunner().invoke(main, ["run", "bert.qrecipe", "-o", "bert-out"])
        assert result.exit_code == code, result.output
        assert ("its graph was captured without" in result.output) is bool(code)

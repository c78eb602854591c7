"""Language models leave as what transformers loads by itself, and llama.cpp runs."""

import json
import math
import warnings
from contextlib import chdir

import pytest
import torch
from click.testing import CliRunner
from gguf import GGUFReader
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    CompressedTensorsConfig,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import qcompile
from qcompile.audit.audit import audit
from qcompile.cli.main import main
from qcompile.driver.plan import plan_recipe
from qcompile.emit.planned_tensors import weight_plans
from qcompile.emit.stored_artifact import read_artifact
from qcompile.interop.compressed_tensors import check_ties
from qcompile.quant.fake_quantize import fake_quantize
from qcompile.quant.stored_weight import stored_weight
from tests.interop.language_models import (
    CALIBRATE,
    MODELS,
    TEXT,
    artifact,
    exported,
    model,
    pieces,
    save,
    tokenizer,
)

IN_BLOCKS = "weight int4 symmetric per_group(32); act float"
INNER = ("use q for linear", 'skip "lm_head"')
EVERYTHING = ("use q for linear or embedding",)


@pytest.fixture(autouse=True)
def _loaders_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        save(folder, name)
    return folder


def ids(count=24):
    return torch.randint(0, 300, (2, count), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def difference(found, expected):
    """Of the next tokens' scores, to their root mean square."""
    ours, theirs = expected(ids())["logits"], found(ids(), use_cache=False).logits
    return float((theirs - ours).square().mean().sqrt() / ours.square().mean().sqrt())


# ---- gguf ----------------------------------------------------------------------------------------


RULES = {"tied": EVERYTHING}
UNREAD = {"qwen3": {"head_dim": 32}}
"""What transformers leaves unread in the file."""


@pytest.mark.parametrize("name", ["llama", "tied", "linear", "mistral", "qwen2", "qwen3"])
def test_transformers_reads_the_model_and_its_tokenizer_out_of_gguf(folder, tmp_path, name):
    out = artifact(folder, name, IN_BLOCKS, *RULES.get(name, INNER))
    said = exported(out, "gguf", tmp_path / "m.gguf")
    assert "llama.cpp runs it, as `" in said
    read = {"gguf_file": "m.gguf"}
    found = AutoModelForCausalLM.from_pretrained(
        tmp_path, **read, **UNREAD.get(name, {}), dtype=torch.float32
    ).eval()
    if name == "linear":  # of the scaling of positions transformers reads nothing there
        found.model.rotary_emb.inv_freq /= 4
    assert difference(found, qcompile.load(out)) < 2e-3
    words = AutoTokenizer.from_pretrained(tmp_path, **read)
    text = TEXT.read_text()
    assert words(text)["input_ids"] == tokenizer().encode(text).ids


def test_transformers_reads_pieces_out_of_gguf(tmp_path):
    save(tmp_path, "llama", pieces())
    out = artifact(tmp_path, "llama", IN_BLOCKS, *INNER)
    assert "llama.cpp runs it, as `llama`" in exported(out, "gguf", tmp_path / "m.gguf")
    words = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    expected = pieces()
    for text in [*TEXT.read_text().splitlines(), "na\u00efve \U0001f600  two"]:
        found = words(text, add_special_tokens=False)["input_ids"]
        assert found == expected.encode(text, add_special_tokens=False).ids


def fields(path):
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


def tensors(path):
    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}


def test_angles_of_a_stretched_model_are_divided_as_transformers_does(folder, tmp_path):
    out = artifact(folder, "stretched", IN_BLOCKS, *INNER)
    exported(out, "gguf", tmp_path / "m.gguf")
    factors = torch.from_numpy(tensors(tmp_path / "m.gguf")["rope_freqs.weight"].data.copy())
    config = model("stretched").config
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config, device="cpu")
    plain = 500_000.0 ** -(torch.arange(0, 16, 2) / 16)
    torch.testing.assert_close(plain / factors, expected)
    assert factors.unique().numel() > 2
    assert fields(tmp_path / "m.gguf")["llama.rope.freq_base"] == 500_000.0


def test_biases_move_with_their_rows(folder, tmp_path):
    out = artifact(folder, "biased", IN_BLOCKS, *INNER)
    exported(out, "gguf", tmp_path / "m.gguf")
    found = tensors(tmp_path / "m.gguf")
    heads = {"q": 4, "k": 2, "v": None, "output": None}
    for place, count in heads.items():
        module = f"{place[0]}_proj"
        bias = model("biased").get_parameter(f"model.layers.1.self_attn.{module}.bias").detach()
        if count is not None:  # llama.cpp turns neighbours: (0, 8), (1, 9), ... of a head of 16
            first, second = bias.reshape(count, 2, 8).unbind(1)
            bias = torch.stack([first, second], dim=2).reshape(-1)
        assert found[f"blk.1.attn_{place}.bias"].data.tolist() == bias.tolist()


def test_a_model_that_gguf_has_no_name_for_keeps_its_names_and_says_why(folder, tmp_path):
    out = artifact(folder, "windowed", IN_BLOCKS, *INNER)
    said = exported(out, "gguf", tmp_path / "m.gguf")
    assert "no program runs it" in said
    assert "it attends in a sliding window" in said
    assert fields(tmp_path / "m.gguf")["general.architecture"] == "qcompile"
    assert "model.layers.0.self_attn.q_proj.weight" in tensors(tmp_path / "m.gguf")


def planned(folder, name, *arguments):
    """What `plan` says; the recipe is that of ``artifact``."""
    artifact(folder, name, IN_BLOCKS, *INNER)
    with chdir(folder):
        return CliRunner().invoke(main, ["plan", f"{name}.qrecipe", *arguments])


def test_the_plan_says_that_no_program_will_run_the_file(folder):
    for arguments in (["--for", "gguf"], ["--for", "gguf", "--preview"]):
        found = planned(folder, "windowed", *arguments)
        assert found.exit_code == 0
        why = "llama.cpp will not run the `gguf` file: it attends in a sliding window"
        assert f"warning[QR554]: {why}" in found.output
    assert "QR554" not in planned(folder, "windowed", "--for", "onnx").output
    assert "QR554" not in planned(folder, "qwen2", "--for", "gguf").output


def test_the_line_that_asks_for_the_file_is_named_and_may_say_that_it_knows(folder):
    def said(comment):
        recipe = folder / "windowed.qrecipe"
        artifact(folder, "windowed", IN_BLOCKS, *INNER)
        asking = f'output {{\n  {comment}\n  format = "gguf"\n}}\n'
        recipe.write_text(recipe.read_text() + asking)
        return [d for d in plan_recipe(recipe).diagnostics if d.code.number == "QR554"]

    (found,) = said("# as a container")
    assert found.primary.span.text == '"gguf"'
    with chdir(folder):
        twice = CliRunner().invoke(main, ["plan", "windowed.qrecipe", "--for", "gguf"]).output
    assert twice.count("QR554") == 1
    assert not said("# qcompile: ignore[QR554] as a container")


def test_a_model_without_its_tokenizer_is_not_run(folder, tmp_path):
    (folder / "mistral" / "tokenizer.json").rename(folder / "tokenizer.json")
    try:
        out = artifact(folder, "mistral", IN_BLOCKS, *INNER)
    finally:
        (folder / "tokenizer.json").rename(folder / "mistral" / "tokenizer.json")
    said = exported(out, "gguf", tmp_path / "m.gguf")
    assert "the model has no `tokenizer.json`" in said
    assert fields(tmp_path / "m.gguf")["general.architecture"] == "qcompile"


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_matrices_in_float_are_of_a_type_that_llama_cpp_multiplies_by(tmp_path, kind):
    save(tmp_path, "llama", kind=kind)
    out = artifact(tmp_path, "llama", IN_BLOCKS, *INNER)
    assert "llama.cpp runs it" in exported(out, "gguf", tmp_path / "m.gguf")
    found = tensors(tmp_path / "m.gguf")
    wanted = "F32" if kind is torch.float64 else "BF16"
    assert found["token_embd.weight"].tensor_type.name == wanted
    assert found["output_norm.weight"].tensor_type.name == "F32"


def test_a_config_with_infinity_leaves_as_it_came(folder, tmp_path):
    save(tmp_path, "tied")
    config = tmp_path / "tied" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"time_limit": math.inf}))
    out = artifact(tmp_path, "tied", IN_BLOCKS, *INNER)
    exported(out, "compressed-tensors", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["time_limit"] == math.inf


# ---- compressed-tensors --------------------------------------------------------------------------


def loaded(directory, **options):
    found, loading = AutoModelForCausalLM.from_pretrained(
        directory, output_loading_info=True, **options
    )
    assert not any(loading.values()), loading
    return found.eval()


PLAIN = {"quantization_config": CompressedTensorsConfig(dequantize=True)}


@pytest.mark.parametrize(
    ("weight", "options"),
    [
        ("int4 symmetric per_group(32)", {}),
        ("int4 symmetric per_channel", {}),
        ("int8 symmetric per_channel", {}),
        ("int8 symmetric per_tensor", {}),
        ("int4 asymmetric per_group(32)", PLAIN),
        ("int8 asymmetric per_channel", PLAIN),
        ("fp8_e4m3 per_channel", {}),
        ("fp8_e4m3 per_tensor", {}),
        ("fp8_e4m3 per_channel; act fp8_e4m3 per_token", {}),
        ("fp8_e4m3 per_tensor; act fp8_e4m3 per_tensor", {}),
        ("mxfp8", PLAIN),
        ("mxfp4", PLAIN),
    ],
)
def test_transformers_loads_the_folder_and_computes_the_same(folder, tmp_path, weight, options):
    act = "" if "act" in weight else "; act float"
    out = artifact(folder, "tied", f"weight {weight}{act}", *INNER, rest=CALIBRATE)
    said = exported(out, "compressed-tensors", tmp_path / "out")
    assert "`from_pretrained` of transformers loads it" in said
    assert ("CompressedTensorsConfig(dequantize=True)" in said) == bool(options)
    found = loaded(tmp_path / "out", **options)
    with torch.no_grad():
        assert torch.equal(found(ids()).logits, qcompile.load(out)(ids())["logits"])
    words = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert words("a b")["input_ids"] == tokenizer().encode("a b").ids
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization_config"]["ignore"] == ["lm_head"]
    assert config["hidden_size"] == 64


def test_what_no_checkpoint_has_is_in_no_file(tmp_path):
    """BERT makes the types of its tokens itself; its graph is copied without dropout."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
    config = BertConfig(**sizes, num_attention_heads=4, vocab_size=320, num_labels=3)
    BertForSequenceClassification(config).eval().save_pretrained(tmp_path / "bert")
    rules = ("use q for linear", 'skip "classifier"')
    out = artifact(tmp_path, "bert", "weight int4 symmetric per_group(32); act float", *rules)
    assert not audit(out, (tmp_path / "bert" / "model.safetensors",))
    exported(out, "compressed-tensors", tmp_path / "out")
    found, loading = BertForSequenceClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(loading.values()), loading
    with torch.no_grad():
        assert torch.equal(found.eval()(ids()).logits, qcompile.load(out)(ids())["logits"])


def gate(out):
    """One weight of the artifact, as `simulate` multiplies by it."""
    plan = next(p for p in weight_plans(read_artifact(out).plan.core) if p.shape == (96, 64))
    assert plan.storage == GATE
    tensors = load_file(out / "model.safetensors")
    return stored_weight(tensors, GATE, plan.spec, plan.shape, 0).dequantize(torch.float32)


GATE = "model.layers.0.mlp.gate_proj.weight"


def test_nvfp4_is_the_same_in_the_half_precision_that_its_reader_takes(folder, tmp_path):
    out = artifact(folder, "tied", "weight nvfp4; act float", *INNER)
    exported(out, "compressed-tensors", tmp_path / "out")
    found = loaded(tmp_path / "out", **PLAIN).get_parameter(GATE)
    torch.testing.assert_close(found, gate(out), rtol=2**-7, atol=0)


def test_beside_int8_activations_of_run_time_the_weights_are_the_same(folder, tmp_path):
    scheme = "weight int8 symmetric per_channel; act int8 symmetric per_token"
    out = artifact(folder, "tied", scheme, *INNER)
    exported(out, "compressed-tensors", tmp_path / "out")
    assert torch.equal(loaded(tmp_path / "out", **PLAIN).get_parameter(GATE), gate(out))
    rounding = loaded(tmp_path / "out").get_submodule(GATE.rpartition(".")[0]).quantization_scheme
    assert rounding.input_activations.num_bits == 8
    assert rounding.input_activations.dynamic


def test_a_head_that_is_untied_is_a_tensor_of_its_own_for_every_reader(folder, tmp_path):
    rules = ("use q for linear", 'set untie = true for "lm_head"')
    out = artifact(folder, "tied", IN_BLOCKS, *rules)
    exported(out, "compressed-tensors", tmp_path / "out")
    exported(out, "gguf", tmp_path / "m.gguf")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["tie_word_embeddings"] is False
    read = loaded(tmp_path / "out")
    table = read.get_parameter("model.embed_tokens.weight")
    assert torch.equal(table, load_file(out / "model.safetensors")["model.embed_tokens.weight"])
    assert difference(read, qcompile.load(out)) < 1e-5
    kinds = {one.name: one.tensor_type.name for one in GGUFReader(tmp_path / "m.gguf").tensors}
    assert (kinds["output.weight"], kinds["token_embd.weight"]) == ("Q4_0", "F32")


def test_what_is_tied_though_no_config_says_so_is_said_not_to_be(tmp_path):
    save(tmp_path, "gemma")
    config = tmp_path / "gemma" / "config.json"
    told = json.loads(config.read_text())
    del told["tie_word_embeddings"]
    config.write_text(json.dumps(told))
    rules = ("use q for linear", 'set untie = true for "lm_head"')
    out = artifact(tmp_path, "gemma", IN_BLOCKS, *rules)
    exported(out, "compressed-tensors", tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text())["tie_word_embeddings"] is False
    assert difference(loaded(tmp_path / "out"), qcompile.load(out)) < 1e-5


def test_what_is_tied_still_beside_what_is_untied_is_refused(folder):
    rules = ("use q for linear", 'set untie = true for "lm_head"')
    out = artifact(folder, "tied", IN_BLOCKS, *rules)
    core = read_artifact(out).plan.core

    def notes(aliases, **config):
        files = {"config.json": json.dumps(config).encode()} if config else {}
        return [one.notes for one in check_ties(core, files, aliases)]

    assert notes(["b.weight"], model_type="llama") == [("tied still: `b.weight`",)]
    halves = ("tied still: the tables of encoder and decoder",)
    assert notes([], model_type="bart", is_encoder_decoder=True) == [halves]
    assert notes([], model_type="llama") == []
    assert notes(["b.weight"]) == []  # a folder of nothing but tensors
    tied = artifact(folder, "tied", IN_BLOCKS, *INNER)
    files = {"config.json": b'{"is_encoder_decoder": true}'}
    assert check_ties(read_artifact(tied).plan.core, files, ["b.weight"]) == []


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_ranges_of_int8_activations_that_are_stored_are_the_readers_too(folder, tmp_path, kind):
    scheme = f"weight int8 symmetric per_channel; act int8 {kind} per_tensor"
    out = artifact(folder, "tied", scheme, *INNER, rest=CALIBRATE)
    exported(out, "compressed-tensors", tmp_path / "out")
    model, stored = loaded(tmp_path / "out"), load_file(out / "model.safetensors")
    plans = {plan.storage: plan for plan in weight_plans(read_artifact(out).plan.core)}
    seen = {}

    def keep(name):
        return lambda layer, inputs, output: seen.update({name: (inputs[0], output)})

    for name, layer in model.named_modules():
        if f"{name}:act.scale" in stored:
            layer.register_forward_hook(keep(name))
    with torch.no_grad():
        model(ids(), use_cache=False)
    assert len(seen) == 14
    # each by itself: behind a number on the edge between two codes all others differ
    for name, (x, output) in seen.items():
        zero, plan = stored.get(f"{name}:act.zero_point"), plans[f"{name}.weight"]
        assert (zero is None) == (kind == "symmetric")
        q = fake_quantize(x, stored[f"{name}:act.scale"], zero, -128, 127, None)
        weight = stored_weight(stored, plan.storage, plan.spec, plan.shape, plan.output_axis)
        expected = q @ weight.dequantize(torch.float32).T
        assert float((output - expected).norm() / expected.norm()) < 1e-5


def test_activations_in_blocks_are_refused_as_readers_scale_them_otherwise(folder, tmp_path):
    out = artifact(folder, "tied", "weight mxfp4; act mxfp4", *INNER)
    with pytest.raises(qcompile.CompileError) as raised:
        qcompile.export(out, "compressed-tensors", tmp_path / "out")
    (found,) = raised.value.diagnostics
    why = "`compressed-tensors` cannot hold mxfp4 activations beside mxfp4 weights"
    assert (found.code.number, found.message) == ("QR550", why)
    assert not (tmp_path / "out").exists()


# ---- the artifact --------------------------------------------------------------------------------


def test_what_describes_the_model_is_a_sealed_part_of_its_artifact(folder):
    out = artifact(folder, "qwen2", IN_BLOCKS, *INNER)
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        there, here = (out / "pretrained" / name), (folder / "qwen2" / name)
        assert there.read_bytes() == here.read_bytes()
    assert not audit(out, (folder / "qwen2" / "model.safetensors",))
    (out / "pretrained" / "tokenizer.json").write_text("{}")
    with pytest.raises(qcompile.CompileError) as raised:
        qcompile.load(out)
    assert [found.code.number for found in raised.value.diagnostics] == ["QR902"]
    assert [found.code.number for found in audit(out)] == ["QR902"]

"""The libraries that ship with the package, on tiny models of the families they are for."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source
from qcompile.driver.bind import bind
from qcompile.driver.front import check, check_source, with_expectations
from qcompile.driver.project_files import ProjectFiles
from qcompile.driver.recipes import library_names, library_path, recipe_path
from qcompile.interop.capability import capability_of, check_plan
from tests.emit.planning import plan_of
from tests.tiny_models import AttentionBlock, ResidualNet, seeded


class Encoder(nn.Module):
    """``[n, t] int64 -> [n, t, 5]``."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 32)
        self.layer = AttentionBlock(32)
        self.head = nn.Linear(32, 5)

    def forward(self, ids):
        return self.head(self.layer(self.words(ids)))


class Vit(nn.Module):
    """``[n, 3, 8, 8] -> [n, 5]``."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.layer = AttentionBlock(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.layer(self.patch(x).flatten(2).transpose(1, 2)).mean(1))


IMAGES = torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8)
IDS = torch.arange(6).reshape(2, 3)
MODELS = {
    "cnn": (ResidualNet, IMAGES),
    "vit": (Vit, IMAGES),
    "encoder": (Encoder, IDS),
    "decoder": (Encoder, IDS),
}
POLICIES = [
    (name, policy)
    for name, policies in {
        "cnn": ("all_w8a8", "mixed_w4a8", "mixed_w4a4"),
        "vit": ("all_w8a8", "mixed_w4a8", "mixed_w4a4"),
        "encoder": ("all_w8a8", "mixed_w4a8", "mixed_w4a4", "small"),
        "decoder": ("w4", "all_w8a8", "mixed_w4a8", "all_fp8", "gguf_q4_0"),
    }.items()
    for policy in policies
]


def bound(name, body):
    text = f'qrecipe 1\nimport "std:{name}" as lib\n{body}\n'
    params = {"lib.group": "32"} if name == "decoder" else {}
    checked = check_source(Source("a.qrecipe", text), ProjectFiles(recipe_path("x")), params)
    assert checked.recipe is not None, checked.diagnostics
    build, example = MODELS[name]
    return bind(checked.recipe, seeded(build()), (example,))


def bits(found, slot):
    return {
        site.path: tensor.spec.bits
        for site in found.planned
        for tensor in site.tensors
        if tensor.slot == slot
    }


@pytest.mark.parametrize("name", library_names())
def test_library_is_checked_without_a_word_and_documents_all_it_defines(name):
    assert check(library_path(name)).diagnostics == ()
    lines = library_path(name).read_text().splitlines()
    for above, line in pairwise(lines):
        if line.startswith(("scheme", "select", "policy", "param")):
            assert above.startswith("## "), line


@pytest.mark.parametrize(("name", "policy"), POLICIES)
def test_every_policy_fits_a_model_of_its_family(name, policy):
    found = bound(name, f"policy main extends lib.{policy} {{}}")
    assert found.diagnostics == ()
    assert bits(found, "weight")


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_ends_have_eight_bits_and_the_rest_four(name):
    weights = bits(bound(name, "policy main extends lib.mixed_w4a4 {}"), "weight")
    ends = {"cnn": {"stem", "fc"}, "vit": {"patch", "head"}}[name]
    assert {path for path, width in weights.items() if width == 8} == ends
    assert {width for path, width in weights.items() if path not in ends} == {4}


def test_decoder_leaves_its_head_and_its_activations_in_float():
    found = bound("decoder", "policy main extends lib.w4 {}")
    assert set(bits(found, "weight")) == {f"layer.{name}" for name in ("qkv", "proj", "fc1", "fc2")}
    assert bits(found, "act") == {}


def test_decoder_group_is_a_parameter():
    found = bound("decoder", "policy main extends lib.w4 {}")
    sizes = {t.spec.granularity.size for site in found.planned for t in site.tensors}
    assert sizes == {32}


@pytest.mark.parametrize(
    ("policy", "form"), [("gguf_q4_0", "gguf"), ("all_fp8", "compressed-tensors")]
)
def test_policies_for_other_runtimes_are_held_by_their_format(policy, form):
    found = bound("decoder", f"policy main extends lib.{policy} {{}}")
    core = plan_of(found.graph, found.planned).core
    assert check_plan(core, capability_of(form)) == []
    weights = bits(found, "weight")
    table = {"gguf_q4_0": {"words": 8, "head": 8}, "all_fp8": {}}[policy]
    body = 4 if policy == "gguf_q4_0" else 8
    assert weights == {f"layer.{n}": body for n in ("qkv", "proj", "fc1", "fc2")} | table


def test_small_encoder_quantizes_its_table_too():
    weights = bits(bound("encoder", "policy main extends lib.small {}"), "weight")
    assert weights["words"] == 8


@pytest.mark.parametrize(
    ("name", "selector", "paths"),
    [
        ("vit", "qkv", {"layer.qkv"}),
        ("vit", "mlp", {"layer.fc1", "layer.fc2"}),
        ("encoder", "qkv", {"layer.qkv"}),
        ("encoder", "mlp", {"layer.fc1", "layer.fc2"}),
        ("decoder", "qkv", {"layer.qkv"}),
        ("decoder", "head", {"head"}),
        ("cnn", "pointwise", {"blocks.1.down.0"}),
        ("cnn", "ends", {"stem", "fc"}),
    ],
)
def test_selector_finds_its_layers(name, selector, paths):
    found = bound(name, f"policy main {{ use lib.w8a8 for lib.{selector} }}")
    assert set(bits(found, "weight")) == paths


def test_edge_decides_nothing_and_expects_something():
    recipe = check(library_path("edge")).recipe
    assert recipe.rules == ()
    assert recipe.assertions


@pytest.mark.parametrize(
    ("body", "holds"),
    [
        ("policy main extends lib.all_w8a8 {}", True),
        ("policy main extends lib.all_w8a8 { skip last(linear) }", False),
        (
            "scheme a2 extends lib.w8a8 { act with bits=2 }\n"
            "policy main extends lib.all_w8a8 { use a2 for first(conv) }",
            False,
        ),
    ],
)
def test_plan_is_held_to_the_expectations_of_edge(body, holds):
    recipe = bound("cnn", body).recipe
    build, example = MODELS["cnn"]
    held = with_expectations(recipe, ["std:edge"])
    if holds:
        assert bind(held, seeded(build()), (example,)).diagnostics == ()
        return
    with pytest.raises(CompileError) as failed:
        bind(held, seeded(build()), (example,))
    assert {d.code.number for d in failed.value.diagnostics} == {"QR603"}
    assert {d.primary.span.source.name for d in failed.value.diagnostics} == {"std:edge"}


def test_file_that_expects_nothing_is_no_pack(tmp_path):
    pack = tmp_path / "p.qrecipe"
    pack.write_text("qrecipe 1\nscheme w8 { weight int8 }\n")
    recipe = check(library_path("cnn")).recipe
    for name, code in ((str(pack), "QR211"), ("std:nothing", "QR205")):
        with pytest.raises(CompileError) as refused:
            with_expectations(recipe, [name])
        assert [d.code.number for d in refused.value.diagnostics] == [code]

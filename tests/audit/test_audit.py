"""Every promise of a plan, broken in a file whose hashes are right."""

import json
import struct
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from qcompile.audit.audit import audit
from qcompile.audit.codes import has_code
from qcompile.audit.findings import MalformedError
from qcompile.audit.plan_lines import promises
from qcompile.audit.strict_json import table
from qcompile.audit.tensor_file import tensors as tensors_of
from qcompile.emit.artifact import model_bytes, write_artifact
from qcompile.policy.core import PlanCore
from qcompile.policy.number_format import (
    BlockFormat,
    CodebookFormat,
    FloatFormat,
    IntFormat,
    NormalFormat,
    PowerFormat,
    SumFormat,
    terms_of,
)
from qcompile.policy.scheme import Mse, PerChannel, PerGroup, PerTensor, QuantSlot, SignedMse
from qcompile.quant.packing import pack
from qcompile.store.canonical import canonical_json, sha256_hex
from qcompile.store.disk import Disk
from tests.emit.planning import plan_of
from tests.emit.tampering import rewritten
from tests.interop.exporting import normal, quantized
from tests.tiny_models import SharedNet, seeded

W3 = QuantSlot(
    format=IntFormat(bits=3, signed=False), symmetric=False, granularity=PerGroup(size=5)
)
W4 = QuantSlot(format=IntFormat(bits=4, signed=True), symmetric=True, granularity=PerChannel())
FP8 = {"kind": "minifloat", "element": "e4m3"}
A8 = QuantSlot(format=IntFormat(bits=8, signed=False), symmetric=False, granularity=PerTensor())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, (1, 5))
        self.norm = nn.LayerNorm(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)))


@pytest.fixture(scope="module")
def made():
    return quantized(seeded(Net()), (normal(2, 1, 3, 8),), W3, A8, only="conv")


@pytest.fixture
def artifact(tmp_path, made):
    return made.written_to(tmp_path / "out")


SIGNED = replace(W4, granularity=PerGroup(size=5), observer=SignedMse())


def test_a_scale_has_a_sign_where_that_is_planned(tmp_path):
    made = quantized(seeded(Net()), (normal(2, 1, 3, 8),), SIGNED, None, only="conv")
    out = made.written_to(tmp_path / "out")
    assert bool((made.tensors["conv.weight:scale"] < 0).any())
    assert audit(out) == []
    with_tensors(out, made, broken("conv.weight:scale", 0, 0.0))
    assert any("positive normal number" in text for text in messages(audit(out)))


def test_a_negative_scale_that_is_not_planned_is_found(tmp_path):
    plain = replace(SIGNED, observer=Mse())
    made = quantized(seeded(Net()), (normal(2, 1, 3, 8),), plain, None, only="conv")
    out = made.written_to(tmp_path / "out")
    with_tensors(out, made, broken("conv.weight:scale", 0, -1.0))
    assert any("positive normal number" in text for text in messages(audit(out)))


def messages(found, code="QR910"):
    assert {item.code.number for item in found} <= {code}, found
    return [item.message for item in found]


def test_a_good_artifact_passes(artifact):
    assert audit(artifact) == []


def test_the_auditor_runs_without_torch(artifact):
    code = (
        "import sys; from pathlib import Path; from qcompile.audit.audit import audit;"
        f"print(audit(Path({str(artifact)!r})), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[] False", done.stderr


def with_tensors(artifact, made, change):
    stored = load_file(artifact / "model.safetensors")
    change(stored)
    rewritten(artifact, {"model.safetensors": model_bytes(stored)}, made.plan.core)


def broken(name, index, value):
    def change(stored):
        stored[name].view(-1)[index] = value

    return change


CHANGES = [
    (broken("conv.weight:scale", 0, float("nan")), "positive normal number"),
    (broken("conv.weight:scale", 1, 0.0), "positive normal number"),
    (broken("conv.weight:scale", 2, 1e-40), "positive normal number"),
    (broken("conv:act.scale", 0, -1.0), "positive normal number"),
    (broken("conv.weight:zero_point", 1, 8), "outside of its grid"),
    (broken("conv.weight:codes", -1, 0x80), "behind its last code"),
    (lambda t: t.pop("conv.weight:scale"), "`conv.weight:scale` is missing"),
    (lambda t: t.update({"old": t.pop("conv.weight:codes")}), "`old` is in no plan"),
    (lambda t: t.update({"conv.weight": torch.zeros(3, 1, 1, 5)}), "float copy"),
    (lambda t: t.update({"fc.bias": t["fc.bias"].half()}), "planned F32[5]"),
    (lambda t: t.pop("norm.weight"), "`norm.weight` is missing"),
]


@pytest.mark.parametrize(("change", "named"), CHANGES, ids=lambda item: str(item)[:24])
def test_a_tensor_that_is_not_as_planned_is_named(artifact, made, change, named):
    with_tensors(artifact, made, change)
    assert any(named in message for message in messages(audit(artifact)))


def with_plan(artifact, change):
    """Change the core as JSON; a new core has a new hash and identity."""
    plan = json.loads((artifact / "plan.json").read_bytes())
    change(plan["core"])
    plan["core_sha256"] = sha256_hex(canonical_json(plan["core"]))
    core = PlanCore.model_validate(plan["core"])
    rewritten(artifact, {"plan.json": canonical_json(plan)}, core)


def weight(core):
    return core["sites"][0]["tensors"][0]


UNIT = {"name": "u", "is_block": True, "sites": [], "bytes_before": 0, "bytes_after": 0}
PLANS = [
    (lambda c: weight(c).update(bytes_after=9), "takes 21 bytes, planned 9"),
    (lambda c: c.update(bytes_after=1), "planned 1"),
    (lambda c: weight(c)["spec"]["format"].update(bits=5), "`conv.weight:codes` is U8[6]"),
    (lambda c: weight(c)["spec"]["granularity"].update(size=4), "do not divide rows of 5"),
    (lambda c: weight(c)["spec"].update(symmetric=True), "`conv.weight:zero_point` is in no plan"),
    (lambda c: c["sites"][0].update(node="gone"), "no node `gone`"),
    (lambda c: weight(c).update(storage="gone"), "the graph does not read `gone`"),
    (lambda c: weight(c).update(shape=[15]), "another shape in the graph"),
    (lambda c: c["sites"][0].update(refits=["gone"]), "`gone` was to be refitted"),
    (lambda c: c["sites"][0].update(refits=["conv.weight"]), "`conv.weight` was to be refitted"),
    (lambda c: c.update(units=[{**UNIT, "refits": ["gone"]}]), "`gone` was to be refitted"),
    (lambda c: weight(c)["spec"].update(format=FP8), "`conv.weight:codes` is U8[6]"),
]


@pytest.mark.parametrize(("change", "named"), PLANS, ids=lambda item: str(item)[:24])
def test_a_plan_that_says_something_else_is_found(artifact, change, named):
    with_plan(artifact, change)
    assert any(named in message for message in messages(audit(artifact)))


def test_an_unknown_number_format_is_not_passed_over(artifact):
    with_plan(artifact, lambda core: None)
    plan = json.loads((artifact / "plan.json").read_bytes())
    weight(plan["core"])["spec"]["format"]["kind"] = "log"
    core = sha256_hex(canonical_json(plan["core"]))
    plan["core_sha256"] = core
    rewritten(artifact, {"plan.json": canonical_json(plan)})
    manifest = json.loads((artifact / "manifest.json").read_bytes())
    parts = {
        "model": manifest["files"]["model.safetensors"]["sha256"],
        "graph": manifest["files"]["graph.json"]["sha256"],
        "plan": core,
    }
    manifest["identity"] = sha256_hex(canonical_json(parts))
    del manifest["seal"]
    manifest["seal"] = sha256_hex(canonical_json(manifest))
    (artifact / "manifest.json").write_bytes(canonical_json(manifest))
    assert "`log` weights, which no auditor knows" in messages(audit(artifact), "QR902")[0]


MX = {"kind": "block", "name": "mxfp4"}


@pytest.mark.parametrize(
    "change",
    [
        lambda act: act["spec"].update(format=MX, dynamic=True),
        lambda act: act.update(block_axis=-1),
        lambda act: (act["spec"].update(format=MX, dynamic=True), act.update(block_axis=1)),
    ],
    ids=["missing", "of integers", "counted from the front"],
)
def test_a_wrong_axis_of_blocks_is_not_passed_over(artifact, change):
    core = json.loads((artifact / "plan.json").read_bytes())["core"]
    change(core["sites"][0]["tensors"][1])
    with pytest.raises(MalformedError, match="wrong axis for the blocks of `act`"):
        promises({"core": core})


# ---- formats that are no integers ----------------------------------------------------------------


def level_slot(number, granularity=None):
    blocks = [term.block for term in terms_of(number) if isinstance(term, BlockFormat)]
    default = PerGroup(blocks[0]) if blocks else PerChannel()
    return QuantSlot(number, symmetric=True, granularity=granularity or default)


SUM = SumFormat((IntFormat(2, signed=True), PowerFormat(3), NormalFormat()))
LEVELS = [
    *(PowerFormat(3), PowerFormat(4, 0.5), NormalFormat(), CodebookFormat(5)),
    *(FloatFormat("e4m3"), FloatFormat("e5m2"), FloatFormat("e2m3"), FloatFormat("e3m2")),
    *(BlockFormat("mxfp8"), BlockFormat("mxfp6"), BlockFormat("mxfp4"), BlockFormat("nvfp4"), SUM),
]


def of_levels(tmp_path, number, granularity=None):
    net = seeded(nn.Sequential(nn.Linear(64, 3)))
    with torch.no_grad():
        net[0].weight[1] = 0
    found = quantized(net, (normal(2, 64),), level_slot(number, granularity), None)
    return found, found.written_to(tmp_path / "out")


@pytest.mark.parametrize("number", LEVELS, ids=str)
def test_every_format_of_weights_passes(tmp_path, number):
    made, out = of_levels(tmp_path, number)
    assert audit(out) == []
    parts = {name.partition(":")[2] for name in made.tensors if ":" in name}
    assert {"codes", "scale"} <= parts


def test_a_sum_has_the_tensors_of_each_term(tmp_path):
    made, out = of_levels(tmp_path, SUM, PerTensor())
    assert audit(out) == []
    names = ("0.weight:term2.exponent", "0.weight:term3.codes")
    found = messages(changed(made, out, lambda tensors: [tensors.pop(name) for name in names]))
    assert {f"`{name}` is missing" for name in names} <= set(found)


def changed(made, out, change):
    stored = dict(load_file(out / "model.safetensors"))
    change(stored)
    rewritten(out, {"model.safetensors": model_bytes(stored)}, made.plan.core)
    return audit(out)


BAD_LEVELS = [
    (PowerFormat(8), broken("0.weight:codes", 7, 255), "a code that stands for no number"),
    (FloatFormat("e4m3"), broken("0.weight:codes", 7, 0x7F), "a code that stands for no number"),
    (FloatFormat("e5m2"), broken("0.weight:codes", -1, 0xFC), "a code that stands for no number"),
    (BlockFormat("mxfp8"), broken("0.weight:codes", 0, 0xFF), "a code that stands for no number"),
    (PowerFormat(3), broken("0.weight:codes", 1, 0xFF), "a code that stands for no number"),
    (PowerFormat(3), broken("0.weight:exponent", 0, -1.0), "no positive number"),
    (PowerFormat(3), broken("0.weight:scale", 0, float("inf")), "no positive number"),
    (CodebookFormat(2), broken("0.weight:levels", 3, float("nan")), "a level that is no number"),
    (BlockFormat("mxfp4"), broken("0.weight:scale", 2, 0xFF), "a scale that is no number"),
    (BlockFormat("nvfp4"), broken("0.weight:scale", 2, 0x80), "a scale that is no number"),
    (BlockFormat("nvfp4"), broken("0.weight:tensor_scale", 0, 0.0), "no positive number"),
    (CodebookFormat(2), lambda t: t.pop("0.weight:levels"), "`0.weight:levels` is missing"),
    (NormalFormat(), lambda t: t.update({"0.weight:levels": torch.zeros(16)}), "is in no plan"),
    (
        BlockFormat("mxfp4"),
        lambda t: t.update({"0.weight:scale": torch.ones(3, 2)}),
        "planned U8[3, 2]",
    ),
]


@pytest.mark.parametrize(("number", "change", "named"), BAD_LEVELS, ids=lambda item: str(item)[:24])
def test_a_broken_part_of_a_format_is_named(tmp_path, number, change, named):
    made, out = of_levels(tmp_path, number)
    assert any(named in message for message in messages(changed(made, out, change)))


@pytest.mark.parametrize("bits", range(2, 9))
def test_a_code_is_found_wherever_it_stands(bits, monkeypatch):
    monkeypatch.setattr("qcompile.audit.codes.PIECE", 2)
    wanted, count = (1 << bits) - 1, 45
    for place in range(count):
        codes = torch.zeros(count, dtype=torch.int64)
        codes[place] = wanted
        stream = memoryview(pack(codes, bits).numpy().tobytes())
        assert has_code(stream, bits, count, (wanted,))
        assert not has_code(stream, bits, count, (wanted - 2,) if bits > 2 else (2,))


# ---- several lines about one thing ---------------------------------------------------------------


class Sum(nn.Module):
    def forward(self, x):
        return torch.matmul(x, x.transpose(0, 1) + 1)


def test_operands_that_a_share_line_joins_lie_on_one_grid(tmp_path):
    made = quantized(Sum(), (normal(3, 3),), None, A8)
    out = made.written_to(tmp_path / "out")
    line = {"file": "a.qrecipe", "line": 7, "column": 3, "text": "share scale for all"}
    (site,) = (s for s in made.plan.core.sites if len(s.tensors) == 2)
    place = made.plan.core.sites.index(site)

    def share(core):
        for tensor in core["sites"][place]["tensors"]:
            tensor["shared_by"] = line

    with_plan(out, share)
    assert audit(out) == []
    core = PlanCore.model_validate(json.loads((out / "plan.json").read_bytes())["core"])
    stored = dict(load_file(out / "model.safetensors"))
    stored[f"{site.key}:act2.scale"] *= 2
    rewritten(out, {"model.safetensors": model_bytes(stored)}, core)
    names = f"`{site.key}:act2.scale` and `{site.key}:act.scale`"
    assert messages(audit(out)) == [f"{names} differ, and are planned to be shared"]
    with_plan(out, lambda c: c["sites"][place]["tensors"][1].update(shared_by=None))
    assert audit(out) == []


def test_lines_that_share_a_weight_must_agree(tmp_path):
    ids = torch.randint(0, 11, (2, 5), generator=torch.Generator().manual_seed(0))
    tied = quantized(seeded(SharedNet()), (ids,), W4, None)
    out = tied.written_to(tmp_path / "out")
    assert audit(out) == []
    head = next(
        place
        for place, site in enumerate(tied.plan.core.sites)
        if site.tensors[0].parameter == "head.weight"
    )
    with_plan(out, lambda c: c["sites"][head]["tensors"][0]["spec"]["format"].update(bits=5))
    assert any("unlike grids" in message for message in messages(audit(out)))


# ---- the float weights ---------------------------------------------------------------------------


def test_what_the_run_refitted_is_not_compared_but_has_to_be_there(tmp_path, made):
    core = made.plan.core
    site = core.sites[0].model_copy(update={"refits": ("conv.bias",)})
    plan = plan_of(made.graph, [site])
    original = {k: v.clone().contiguous() for k, v in made.graph.state_dict().items()}
    refitted = made.tensors | {"conv.bias": original["conv.bias"] + 1}
    out, weights = tmp_path / "out", tmp_path / "w.safetensors"
    save_file(original, weights)
    assert write_artifact(Disk(), out, made.graph, plan, refitted, {}) == []
    assert audit(out, (weights,)) == []
    stored = load_file(out / "model.safetensors")
    assert torch.equal(stored["conv.bias"], original["conv.bias"] + 1)
    del stored["conv.bias"]
    rewritten(out, {"model.safetensors": model_bytes(stored)}, plan.core)
    assert "`conv.bias` is missing" in messages(audit(out, (weights,)))


def test_untouched_tensors_have_the_bytes_of_the_weights(tmp_path, artifact, made):
    weights = tmp_path / "w.safetensors"
    original = {k: v.clone().contiguous() for k, v in made.graph.state_dict().items()}
    save_file(original, weights)
    assert audit(artifact, (weights,)) == []
    changed = original | {"fc.bias": original["fc.bias"].nextafter(torch.tensor(9.0))}
    save_file(changed, weights)
    assert messages(audit(artifact, (weights,))) == ["`fc.bias` has not the bytes of the weights"]
    del original["norm.bias"]
    save_file(original, weights)
    assert messages(audit(artifact, (weights,))) == ["`norm.bias` is in none of the given weights"]


def test_what_a_transform_rewrote_is_not_compared(tmp_path, artifact, made):
    weights = tmp_path / "w.safetensors"
    original = {k: v + 1 for k, v in made.graph.state_dict().items() if k.startswith("norm.")}
    same = {k: v for k, v in made.graph.state_dict().items() if not k.startswith("norm.")}
    save_file(original | same, weights)
    assert len(audit(artifact, (weights,))) == 2
    rest = {"name": "t", "sources": [], "value": None, "settings": []}
    whole = {**rest, "target": "norm", "readers": [], "parameters": []}
    part = {**whole, "parameters": ["norm.weight"]}
    both = {**whole, "target": "conv", "parameters": ["norm.weight", "norm.bias"]}
    elsewhere = {**whole, "target": "nor"}
    for found, item in ((2, elsewhere), (0, whole), (1, part), (0, both)):
        with_plan(artifact, lambda core, item=item: core.update(transforms=[item]))
        assert len(audit(artifact, (weights,))) == found


# ---- bad input -----------------------------------------------------------------------------------


def header(text, body=b""):
    raw = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(raw)) + raw + body


ONE = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
BAD_FILES = {
    "empty": b"",
    "short": b"\0" * 7,
    "huge header": struct.pack("<Q", 1 << 60) + b"{}",
    "truncated": header({"a": ONE}, b"123"),
    "trailing": header({"a": ONE}, b"12345"),
    "duplicate": header(b'{"a": %s, "a": %s}' % ((json.dumps(ONE).encode(),) * 2), b"1234"),
    "overlap": header({"a": ONE, "b": ONE}, b"1234"),
    "hole": header({"a": ONE | {"data_offsets": [2, 6]}}, b"123456"),
    "shape": header({"a": ONE | {"shape": [1 << 62, 1 << 62]}}, b"1234"),
    "negative": header({"a": ONE | {"shape": [-4]}}, b"1234"),
    "dtype": header({"a": ONE | {"dtype": "Q4"}}, b"1234"),
    "not json": header(b"{", b""),
    "deep": header(b"[" * 100_000, b""),
    "nan": header(b'{"a": NaN}', b""),
}


@pytest.mark.parametrize("data", BAD_FILES.values(), ids=BAD_FILES)
def test_a_malformed_tensor_file_is_refused_in_little_memory(artifact, made, data):
    rewritten(artifact, {"model.safetensors": data}, made.plan.core)
    tracemalloc.start()
    assert [item.code.number for item in audit(artifact)] == ["QR902"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_our_reader_sees_what_others_wrote(artifact):
    data = (artifact / "model.safetensors").read_bytes()
    theirs = load_file(artifact / "model.safetensors")
    ours = tensors_of(data)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].shape == tuple(tensor.shape)
        assert bytes(ours[name].data) == np.ascontiguousarray(tensor.numpy()).tobytes()


@pytest.mark.parametrize("text", [b"[1]", b'{"a": 1, "a": 2}', b"\xff", b'{"a": Infinity}'])
def test_json_is_read_strictly(text):
    with pytest.raises(MalformedError):
        table(text)


def test_a_folder_that_is_a_link_is_not_entered(tmp_path, artifact):
    (artifact / "recipe").rename(tmp_path / "elsewhere")
    (artifact / "recipe").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert set(messages(audit(artifact), "QR902")) == {
        "`recipe/a.qrecipe` is a link",
        "`recipe/0-b.qrecipe` is a link",
    }
    from qcompile.emit.stored_artifact import read_artifact

    assert {item.code.number for item in read_artifact(artifact)} == {"QR902"}


@pytest.mark.parametrize("name", ["plan.json", "graph.json"])
def test_another_version_and_a_key_twice_are_refused(artifact, made, name):
    document = json.loads((artifact / name).read_bytes())
    whole = (artifact / name).read_bytes()
    rewritten(
        artifact, {name: canonical_json(document | {"format_version": "2.0"})}, made.plan.core
    )
    assert {item.code.number for item in audit(artifact)} == {"QR908"}
    rewritten(artifact, {name: whole[:-1] + b',"format_version":"1.0"}'}, made.plan.core)
    assert messages(audit(artifact), "QR902") == [f"`{name}` names a key twice"]

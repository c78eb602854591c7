import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file

from qcompile.data.weights import MemoryWeights, open_weights, weights_sha256
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError

TENSORS = {
    "float": torch.arange(6.0).reshape(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "whole": torch.tensor([[1], [2]]),
    "bit": torch.tensor([True, False]),
    "scalar": torch.tensor(3.0),
    "none": torch.zeros(0, 3),
    "eight": torch.tensor([1.0, 2.0]).to(torch.float8_e4m3fn),
}


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path)
    return path


def test_a_file_gives_back_what_was_saved(stored):
    source = open_weights(stored)
    assert not isinstance(source, Diagnostic)
    assert source.names == tuple(sorted(TENSORS))
    for name, tensor in TENSORS.items():
        read = source.tensor(name)
        assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(read.float(), tensor.float())
        assert source.stored(name).shape == tuple(tensor.shape)


def test_the_hash_of_a_tensor_is_over_its_raw_bytes(stored):
    source = open_weights(stored)
    assert not isinstance(source, Diagnostic)
    raw = TENSORS["float"].numpy().tobytes()
    assert source.sha256("float") == hashlib.sha256(raw).hexdigest()


def test_file_and_memory_have_one_hash(stored):
    source = open_weights(stored)
    assert not isinstance(source, Diagnostic)
    assert weights_sha256(source) == weights_sha256(MemoryWeights(TENSORS))


def test_memory_layout_and_order_do_not_matter_to_the_hash():
    tensor = torch.arange(6.0).reshape(2, 3)
    strided = MemoryWeights({"b": torch.ones(1), "a": tensor.t().contiguous().t()})
    assert weights_sha256(strided) == weights_sha256(
        MemoryWeights({"a": tensor, "b": torch.ones(1)})
    )


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.tensor([1.0, 2.0])},
        {"b": torch.tensor([0.0, 2.0])},
        {"a": torch.tensor([[0.0, 2.0]])},
        {"a": torch.tensor([0.0, 2.0]).view(torch.int32)},
        {"a": torch.tensor([0.0, 2.0]), "b": torch.zeros(0)},
        {"a": torch.tensor([-0.0, 2.0])},
    ],
)
def test_name_type_shape_and_content_all_count(other):
    base = MemoryWeights({"a": torch.tensor([0.0, 2.0])})
    assert weights_sha256(base) != weights_sha256(MemoryWeights(other))


def test_meta_tensors_have_a_shape():
    source = MemoryWeights({"a": torch.empty(2, 3, device="meta")})
    assert source.stored("a").shape == (2, 3)


def test_shards_are_read_as_one(tmp_path):
    save_file({"a": TENSORS["float"]}, tmp_path / "one.safetensors")
    save_file({"b": TENSORS["whole"]}, tmp_path / "two.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    names = {"a": "one.safetensors", "b": "two.safetensors"}
    index.write_text(json.dumps({"metadata": {"total_size": 40}, "weight_map": names}))
    source = open_weights(index)
    assert not isinstance(source, Diagnostic)
    assert weights_sha256(source) == weights_sha256(
        MemoryWeights({"a": TENSORS["float"], "b": TENSORS["whole"]})
    )


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("", "not a shard index"),
        ("[]", "not a shard index"),
        ('{"weight_map": {"a": 1}}', "not a shard index"),
        ('{"weight_map": {"a": "../secret.safetensors"}}', "outside its own folder"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "outside its own folder"),
        ('{"weight_map": {"a": "absent.safetensors"}}', "does not exist"),
        ('{"weight_map": {"a": "shard.bin"}}', "is a pickle"),
        ('{"weight_map": {"z": "one.safetensors"}}', "has no such tensor"),
    ],
)
def test_a_bad_index_is_refused(tmp_path, index, reason):
    save_file({"a": TENSORS["float"]}, tmp_path / "one.safetensors")
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(index)
    problem = open_weights(path)
    assert isinstance(problem, Diagnostic)
    assert problem.code is Code.WEIGHT_FILE
    assert reason in problem.message


def test_a_file_that_shrinks_meanwhile_is_noticed(stored):
    source = open_weights(stored)
    assert not isinstance(source, Diagnostic)
    stored.write_bytes(stored.read_bytes()[:200])
    with pytest.raises(CompileError) as caught:
        source.sha256("float")
    assert caught.value.diagnostics[0].code is Code.WEIGHT_FILE

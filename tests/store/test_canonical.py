import hashlib

import pytest

from qcompile.store.canonical import CHUNK_BYTES, canonical_json, sha256_file, sha256_hex


def test_order_of_keys_does_not_matter():
    assert canonical_json({"b": 1, "a": [1, 2]}) == canonical_json({"a": [1, 2], "b": 1})
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_without_a_json_spelling_are_refused(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"a": value})


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_a_file_hashes_as_its_bytes(tmp_path, size):
    data = b"q" * size
    path = tmp_path / "f"
    path.write_bytes(data)
    assert sha256_file(path) == sha256_hex(data) == hashlib.sha256(data).hexdigest()

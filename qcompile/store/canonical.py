"""One spelling for one value: what is hashed, and what is written when bytes must repeat."""

import hashlib
import json
from pathlib import Path

CHUNK_BYTES = 1 << 20


def canonical_json(value: object) -> bytes:
    """Sorted keys, no spaces, UTF-8; raises ``ValueError`` for NaN and infinities."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hash a file in pieces: it may be larger than memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()

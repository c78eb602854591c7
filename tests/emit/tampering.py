"""What an attacker does who can hash."""

import json

from qcompile.emit.artifact_files import Manifest, artifact_identity, file_entry, sealed


def rewritten(directory, changes, core=None):
    """Change files as an attacker would who can hash: manifest, identity and seal follow."""
    for name, data in changes.items():
        (directory / name).write_bytes(data)
    raw = json.loads((directory / "manifest.json").read_bytes())
    del raw["seal"]
    manifest = Manifest.model_validate(raw)
    entries = {name: file_entry((directory / name).read_bytes()) for name in manifest.files}
    model, graph = entries["model.safetensors"].sha256, entries["graph.json"].sha256
    identity = artifact_identity(model, graph, core) if core else manifest.identity
    made = manifest.model_copy(update={"files": entries, "identity": identity})
    (directory / "manifest.json").write_bytes(sealed(made.model_dump(mode="json")))

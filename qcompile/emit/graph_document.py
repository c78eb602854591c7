"""A graph as it lies on the disk: pure data, whose names mean nothing until they are looked up."""

import json
from typing import Literal, TypeAlias, cast

from pydantic import Field, JsonValue, ValidationError

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.emit.artifact_files import GRAPH_FILE
from qcompile.emit.format_version import check_version
from qcompile.policy.document import Frozen

GRAPH_FORMAT_VERSION = "1.0"
MAX_DEPTH = 64
"""Nesting of JSON containers; a real graph stays below 20."""


NodeOp: TypeAlias = Literal[
    "placeholder", "get_attr", "call_function", "call_method", "call_module", "output"
]


class NodeRecord(Frozen):
    """One ``torch.fx`` node; ``module``, ``shape`` and ``dtype`` are for the reader alone."""

    op: NodeOp
    name: str
    target: str
    args: tuple[JsonValue, ...] = ()
    """Values as ``graph_values`` writes them."""
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    module: str = ""
    """Path of the innermost module that was entered around the node."""
    shape: tuple[int | str, ...] | None = None
    """Free sizes as expressions of symbols."""
    dtype: str | None = None


class LeafRecord(Frozen):
    """A module that is called whole: its class and how to construct it."""

    path: str
    class_name: str
    arguments: dict[str, JsonValue]


class TensorRecord(Frozen):
    """A parameter or buffer that the graph or a leaf reads."""

    name: str
    kind: Literal["parameter", "buffer"]
    dtype: str
    shape: tuple[int, ...]
    persistent: bool = True
    alias: str | None = None
    """Name under which the same tensor is stored, where that is another one."""

    @property
    def stored_as(self) -> str:
        return self.alias or self.name


class GraphDocument(Frozen):
    format_version: str = GRAPH_FORMAT_VERSION
    nodes: tuple[NodeRecord, ...]
    """In execution order; a value refers to earlier nodes only."""
    leaves: tuple[LeafRecord, ...]
    tensors: tuple[TensorRecord, ...]
    """Sorted by name."""


def read_graph(data: bytes) -> GraphDocument | list[Diagnostic]:
    """Read ``graph.json``: well-formed and of bounded depth; names are checked by ``decode``."""
    try:
        raw = cast("JsonValue", json.loads(data))
    except (ValueError, RecursionError):
        return [unsafe_graph("is not JSON")]
    newer = check_version(GRAPH_FILE, raw, GRAPH_FORMAT_VERSION)
    if newer:
        return newer
    if _is_deep(raw):
        return [unsafe_graph(f"is nested deeper than {MAX_DEPTH}")]
    try:
        return GraphDocument.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return [unsafe_graph("is not a graph document", place)]


def unsafe_graph(why: str, place: str = "") -> Diagnostic:
    """QR909."""
    return Diagnostic(
        Code.UNSAFE_GRAPH,
        f"the stored graph {why}",
        subject=f"{GRAPH_FILE}:{place}" if place else GRAPH_FILE,
        help="nothing of it was run; get the artifact again from a source you trust",
    )


def _is_deep(value: JsonValue) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inside: list[JsonValue] = []
        for item in level:
            if isinstance(item, dict):
                inside.extend(item.values())
            elif isinstance(item, list):
                inside.extend(item)
        if not inside:
            return False
        level = inside
    return True

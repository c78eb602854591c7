"""What a plan promises of each tensor, read from its JSON alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import cast

from qcompile.audit.findings import MalformedError
from qcompile.audit.number_grids import Grid, grids
from qcompile.audit.strict_json import (
    Json,
    Table,
    canonical,
    field,
    naturals,
    optional,
    strings,
    tables,
)

OF_ACTIVATIONS = frozenset({"int", "power", "log", "minifloat", "block"})
OF_WEIGHTS = (OF_ACTIVATIONS - {"log"}) | {"nf4", "codebook", "sum"}
"""Kinds of number formats."""
SIGNED = "signed_mse"
"""The observer whose scales may be negative."""


@dataclass(frozen=True, slots=True)
class Line:
    """One quantized tensor; ``name`` is its prefix in the tensor file."""

    site: str
    node: str
    kind: str
    """Of the site: ``linear``, ``conv``, ..."""
    slot: str
    name: str
    grids: tuple[Grid, ...]
    """One, or one for each term of a sum."""
    symmetric: bool
    has_signed_scales: bool
    granularity: str
    scales: tuple[int, ...]
    """Shape of scale and zero point."""
    group: int | None
    shape: tuple[int, ...]
    """Of a weight."""
    channel_axis: int
    """Of scales and groups."""
    output_axis: int
    row: int
    """Elements of a weight that lie behind one index of its channel axis."""
    nbytes: int
    at_run_time: bool
    grid: bytes
    """All that the plan says of the grid, to compare lines with."""
    shared_by: bytes
    """The line of the recipe that puts it on one grid with others of its site; empty: none."""
    parameter: str = ""

    @property
    def channels(self) -> int:
        """Of a weight, along ``channel_axis``."""
        return self.shape[self.channel_axis] if self.shape else 1

    @property
    def is_weight(self) -> bool:
        return self.slot == "weight"


@dataclass(frozen=True, slots=True)
class Promises:
    """All that an artifact is held to."""

    lines: tuple[Line, ...]
    """In the order of the plan."""
    refitted: frozenset[str]
    """Tensors that stayed float and were set anew with the codes beside them."""
    rewritten: tuple[str, ...]
    """Modules or tensors that a transform of the plan changed."""
    nbytes: int


def promises(plan: Table) -> Promises:
    """Raise ``MalformedError``."""
    core = cast("dict[str, Json]", field(plan, "core", dict))
    sites = tables(core, "sites")
    return Promises(
        lines=tuple(line for site in sites for line in _lines(site)),
        refitted=frozenset(
            path for table in (*sites, *tables(core, "units")) for path in strings(table, "refits")
        ),
        rewritten=tuple(path for item in tables(core, "transforms") for path in _rewritten(item)),
        nbytes=field(core, "bytes_after", int),
    )


def _rewritten(transform: Table) -> tuple[str, ...]:
    """Paths of parameters, or that of the module all of whose parameters are new."""
    return strings(transform, "parameters") or (field(transform, "target", str),)


def _lines(site: Table) -> Iterator[Line]:
    further = 1
    for stated in tables(site, "tensors"):
        slot = field(stated, "slot", str)
        further += slot == "act2"
        yield _line(site, stated, f"act{further}" if slot == "act2" else slot)


def _line(site: Table, stated: Table, slot: str) -> Line:
    spec = cast("dict[str, Json]", field(stated, "spec", dict))
    form = cast("dict[str, Json]", field(spec, "format", dict))
    step = cast("dict[str, Json]", field(spec, "granularity", dict))
    observer = field(cast("dict[str, Json]", field(spec, "observer", dict)), "kind", str)
    at_run_time = field(spec, "dynamic", bool) or step.get("kind") == "per_token"
    known = OF_WEIGHTS if slot == "weight" else OF_ACTIVATIONS
    terms = tables(form, "terms") if form.get("kind") == "sum" else []
    for number in (field(one, "kind", str) for one in (form, *terms)):
        if number not in known:
            what = "weights" if slot == "weight" else "activations"
            raise MalformedError(f"has `{number}` {what}, which no auditor knows")
    has_axis = slot != "weight" and form.get("kind") == "block"
    axis_of_blocks = optional(stated, "block_axis", int)
    if (axis_of_blocks is not None) != has_axis or (axis_of_blocks or -1) >= 0:
        raise MalformedError(f"has a wrong axis for the blocks of `{slot}`")
    shape = naturals(stated, "shape")
    kind = field(step, "kind", str)
    output_axis = field(stated, "output_axis", int)
    axis = _channel_axis(output_axis, step, len(shape))
    along = None if kind == "per_tensor" else axis
    channels = shape[axis] if shape else optional(stated, "channels", int) or 1
    row = prod(shape) // max(channels, 1)
    group = optional(step, "size", int)
    key = field(site, "key", str)
    storage = optional(stated, "storage", str) or optional(stated, "parameter", str) or ""
    return Line(
        site=key,
        node=field(site, "node", str),
        kind=field(site, "kind", str),
        slot=slot,
        name=storage if slot == "weight" else f"{key}:{slot}",
        grids=grids(form),
        symmetric=field(spec, "symmetric", bool),
        has_signed_scales=observer == SIGNED,
        granularity=kind,
        scales=_scales(kind, channels, row, group),
        group=group,
        shape=shape,
        channel_axis=axis,
        output_axis=output_axis % max(len(shape), 1),
        row=row,
        nbytes=field(stated, "bytes_after", int),
        at_run_time=at_run_time,
        grid=repr((form, spec.get("symmetric"), observer == SIGNED, step, shape, along)).encode(),
        shared_by=canonical(stated["shared_by"]) if stated.get("shared_by") else b"",
        parameter=optional(stated, "parameter", str) or "",
    )


def _channel_axis(output_axis: int, step: Table, rank: int) -> int:
    """``per_channel(k)`` counts with the output axis in front."""
    first = output_axis % max(rank, 1)
    chosen = optional(step, "axis", int) or 0
    axes = [first, *(axis for axis in range(rank) if axis != first)]
    if not -len(axes) <= chosen < len(axes):
        return 0
    return axes[chosen]


def _scales(kind: str, channels: int, row: int, group: int | None) -> tuple[int, ...]:
    match kind:
        case "per_tensor" | "per_token":
            return (1,)
        case "per_channel":
            return (channels,)
        case "per_group":
            return (channels, -(-row // max(group or 1, 1)))
        case _:
            raise MalformedError(f"has the granularity `{kind}`, which no auditor knows")

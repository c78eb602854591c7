"""What a plan promises of each tensor, read from its JSON alone."""

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


@dataclass(frozen=True, slots=True)
class Line:
    """One quantized tensor; ``name`` is its prefix in the tensor file."""

    site: str
    node: str
    slot: str
    name: str
    grids: tuple[Grid, ...]
    """One, or one for each term of a sum."""
    symmetric: bool
    granularity: str
    scales: tuple[int, ...]
    """Shape of scale and zero point."""
    group: int | None
    shape: tuple[int, ...]
    """Of a weight."""
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
    def is_weight(self) -> bool:
        return self.slot == "weight"


def lines(plan: Table) -> tuple[Line, ...]:
    """Every line of the plan, in its order. Raises ``MalformedError``."""
    found: list[Line] = []
    for site in tables(field(plan, "core", dict), "sites"):
        further = 1
        for stated in tables(site, "tensors"):
            slot = field(stated, "slot", str)
            further += slot == "act2"
            numbered = f"act{further}" if slot == "act2" else slot
            found.append(_line(site, stated, numbered))
    return tuple(found)


def core_number(plan: Table, key: str) -> int:
    return field(field(plan, "core", dict), key, int)


def rewritten(plan: Table) -> tuple[str, ...]:
    """Modules whose tensors a transform of the plan changed."""
    core = cast("dict[str, Json]", field(plan, "core", dict))
    return tuple(field(item, "target", str) for item in tables(core, "transforms"))


def refitted(plan: Table) -> frozenset[str]:
    """Tensors that stayed float and were set anew with the codes beside them."""
    paths: set[str] = set()
    for site in tables(field(plan, "core", dict), "sites"):
        paths.update(strings(site, "refits"))
    return frozenset(paths)


def _line(site: Table, stated: Table, slot: str) -> Line:
    spec = cast("dict[str, Json]", field(stated, "spec", dict))
    form = cast("dict[str, Json]", field(spec, "format", dict))
    if slot != "weight" and form.get("kind") != "int":
        raise MalformedError(f"has `{form.get('kind')}` activations, which no auditor knows")
    step = cast("dict[str, Json]", field(spec, "granularity", dict))
    shape = naturals(stated, "shape")
    kind = field(step, "kind", str)
    axis = _channel_axis(field(stated, "output_axis", int), step, len(shape))
    channels = shape[axis] if shape else optional(stated, "channels", int) or 1
    row = prod(shape) // max(channels, 1)
    group = optional(step, "size", int)
    key = field(site, "key", str)
    storage = optional(stated, "storage", str) or optional(stated, "parameter", str) or ""
    return Line(
        site=key,
        node=field(site, "node", str),
        slot=slot,
        name=storage if slot == "weight" else f"{key}:{slot}",
        grids=grids(form),
        symmetric=field(spec, "symmetric", bool),
        granularity=kind,
        scales=_scales(kind, channels, row, group),
        group=group,
        shape=shape,
        row=row,
        nbytes=field(stated, "bytes_after", int),
        at_run_time=field(spec, "dynamic", bool) or kind == "per_token",
        grid=repr((form, spec.get("symmetric"), step, shape, axis)).encode(),
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

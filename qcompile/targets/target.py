"""A target as data: which layers it has a kernel for, which stay in float, which it refuses.

The file format is published as ``docs/schemas/target-1.0.json``; the targets that ship with the
program are such files themselves.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from qcompile.targets.layer_form import ADD, ADD_CODES, LayerForm, TensorForm

TARGET_FORMAT_VERSION = "1.0"

Outcome: TypeAlias = Literal["kernel", "float", "refuse"]
Need: TypeAlias = Literal["onednn", "vnni", "avx2", "cuda", "cuda_int8", "cuda_fp8", "cuda_int4"]
Kernel: TypeAlias = Literal[
    "reference",
    "onednn_qconv",
    "onednn_sum",
    "onednn_qlinear",
    "onednn_qlinear_dynamic",
    "int4_weight_only",
    "int8_weight_only",
    "int_mm",
    "scaled_mm",
    "int4_tensor_cores",
    "elsewhere",
]
"""``reference``: the simulation itself. ``elsewhere``: outside this program, for plans alone."""
Multiple: TypeAlias = Annotated[int, Field(gt=0)]


class _Data(BaseModel):
    # a mistyped key is reported, not ignored
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Operand(_Data):
    """The quantized tensors that a kernel takes; what is left out may be anything."""

    formats: tuple[str, ...] = Field(min_length=1)
    """Names of the language: ``int8``, ``uint4``."""
    symmetric: bool | None = None
    granularity: tuple[str, ...] = Field(min_length=1)
    """``per_tensor``, ``per_channel`` (of the outputs), ``per_group``, ``per_token``."""
    groups: tuple[Multiple, ...] | None = None
    dynamic: bool | None = None
    """Whether ranges are found at run time."""

    def takes(self, tensor: TensorForm) -> bool:
        return (
            tensor.format in self.formats
            and self.symmetric in (None, tensor.symmetric)
            and tensor.granularity in self.granularity
            and (tensor.group is None or self.groups is None or tensor.group in self.groups)
            and self.dynamic in (None, tensor.dynamic)
        )

    def __str__(self) -> str:
        symmetry = {None: "", True: " symmetric", False: " asymmetric"}[self.symmetric]
        sizes = "" if self.groups is None else f"({'/'.join(map(str, self.groups))})"
        granularity = " or ".join(self.granularity).replace("per_group", f"per_group{sizes}")
        dynamic = " dynamic" if self.dynamic else ""
        return f"{_ranges(self.formats)}{symmetry} {granularity}{dynamic}"


class Support(_Data):
    """One row of the table: what happens to the layers that it covers."""

    ops: tuple[str, ...] = Field(min_length=1)
    """``*`` for every operation."""
    weight: Operand | Literal["float", "any"]
    act: Operand | Literal["float", "any"]
    """Of every quantized operand of the layer."""
    inputs_multiple_of: Multiple = 1
    """Of a linear layer's features."""
    outputs_multiple_of: Multiple = 1
    outcome: Outcome
    kernel: Kernel | None = None
    """Given exactly when ``outcome`` is ``kernel``."""
    because: str = ""
    """Why there is no kernel, for people."""

    def covers(self, layer: LayerForm) -> bool:
        return (
            self._names(layer.op)
            and _takes(self.weight, () if layer.weight is None else (layer.weight,))
            and _takes(self.act, layer.acts)
            and (layer.inputs or 0) % self.inputs_multiple_of == 0
            and (layer.outputs or 0) % self.outputs_multiple_of == 0
        )

    def _names(self, op: str) -> bool:
        """A row for additions is for those of codes and floats as well."""
        return bool({"*", op} & set(self.ops)) or (op == ADD_CODES and ADD in self.ops)

    def __str__(self) -> str:
        multiples = [
            f"{name} a multiple of {number}"
            for name, number in (
                ("inputs", self.inputs_multiple_of),
                ("outputs", self.outputs_multiple_of),
            )
            if number > 1
        ]
        return ", ".join((f"weight {self.weight}", f"act {self.act}", *multiples))


class Answer(_Data):
    outcome: Outcome
    kernel: Kernel | None = None
    because: str = ""


class Target(_Data):
    """The whole file. The first row that covers a layer decides; ``otherwise`` the rest."""

    format_version: str = TARGET_FORMAT_VERSION
    name: str = Field(min_length=1)
    title: str
    needs: tuple[Need, ...] = ()
    """What the machine must have to run it; planning for it needs nothing."""
    agreement: float = Field(default=0.0, ge=0)
    """Difference to the simulation that is still the kernels' rounding, relative to the root mean
    square of the output; 0 is equality."""
    accumulator_bits: Literal[16, 32] = 32
    """Of the integers in which kernels add products of codes."""
    few_rows: int = Field(default=0, ge=0)
    """Weight-only kernels run for inputs of at most so many rows, a float product for more; those
    that are compiled here take them all where the processor has no AMX."""
    support: tuple[Support, ...]
    otherwise: Literal["float", "refuse"] = "float"

    def answer(self, layer: LayerForm) -> Answer:
        """What becomes of ``layer``; one with nothing quantized is float on every target."""
        if layer.weight is None and not layer.acts:
            return Answer(outcome="float", because="nothing of it is quantized")
        for row in self.support:
            if row.covers(layer):
                return Answer(outcome=row.outcome, kernel=row.kernel, because=row.because)
        return Answer(outcome=self.otherwise, because=f"no kernel takes {layer}")

    def kernels_for(self, op: str) -> tuple[str, ...]:
        """What would run in a kernel, in words; empty where nothing of that operation does."""
        rows = (row for row in self.support if row.outcome == "kernel")
        return tuple(str(row) for row in rows if "*" in row.ops or op in row.ops)


def _ranges(formats: tuple[str, ...]) -> str:
    """``int2..int4/uint2`` for neighbours that differ by one bit."""
    runs: list[list[str]] = []
    for name in formats:
        if runs and _follows(runs[-1][-1], name):
            runs[-1].append(name)
        else:
            runs.append([name])
    return "/".join(run[0] if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


def _follows(one: str, other: str) -> bool:
    family = one.rstrip("0123456789")
    before, after = one.removeprefix(family), other.removeprefix(family)
    return before.isdigit() and after.isdigit() and int(after) == int(before) + 1


def _takes(wanted: Operand | Literal["float", "any"], tensors: tuple[TensorForm, ...]) -> bool:
    match wanted:
        case "any":
            return True
        case "float":
            return not tensors
        case Operand():
            return bool(tensors) and all(wanted.takes(tensor) for tensor in tensors)

"""An artifact as GGUF, in the blocks that our grids are: 32 codes and one or two half floats.

The codes are ours, bit for bit. The scale is stored in half precision, as the format has it, so a
weight differs from ``simulate`` by at most ``2^-11`` of itself (and, where the block has an offset,
of that); a scale that half precision would lose is refused.

A language model of transformers of a family that llama.cpp knows is written as that program names
it, with its tokenizer; everything else has the names of the model, and no program runs it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor, fx

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.emit.graph_document import TensorRecord
from qcompile.emit.stored_artifact import StoredArtifact
from qcompile.emit.tensor_table import tensor_table
from qcompile.interop.exported import Exported
from qcompile.interop.gguf_file import (
    MAX_NAME,
    MAX_RANK,
    GgmlType,
    GgufTensor,
    Value,
    gguf_bytes,
)
from qcompile.interop.gguf_language import (
    ANGLES,
    EMBEDDING,
    FREQUENCIES,
    LanguageModel,
    language_model,
)
from qcompile.interop.gguf_tokenizer import CONFIG, tokenizer_fields
from qcompile.interop.packed_matrix import PackedMatrix, packed_matrices

BLOCK = 32
HALF = BLOCK // 2
ARCHITECTURE = "qcompile"
"""No program runs it by this name; it says whose names the tensors have."""

BLOCK_TYPES: Mapping[tuple[int, bool], GgmlType] = MappingProxyType(
    {
        (8, True): GgmlType.Q8_0,
        (5, True): GgmlType.Q5_0,
        (5, False): GgmlType.Q5_1,
        (4, True): GgmlType.Q4_0,
        (4, False): GgmlType.Q4_1,
    }
)
"""By bits, and whether the grid is symmetric."""

READ_TYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Those in which llama.cpp multiplies by a matrix that is not quantized; it adds in float32."""
FLOAT_TYPES: Mapping[torch.dtype, GgmlType] = MappingProxyType(
    {
        torch.float32: GgmlType.F32,
        torch.float16: GgmlType.F16,
        torch.bfloat16: GgmlType.BF16,
        torch.float64: GgmlType.F64,
        torch.int8: GgmlType.I8,
        torch.int16: GgmlType.I16,
        torch.int32: GgmlType.I32,
        torch.int64: GgmlType.I64,
    }
)


def gguf_file(stored: StoredArtifact, tensors: Mapping[str, Tensor]) -> Exported | list[Diagnostic]:
    """``tensors`` are those of the artifact; its plan has passed ``check_plan``."""
    matrices = packed_matrices(stored.plan.core, tensors)
    told = language_of(stored.description, stored.graph.tensors, tensors.get(ANGLES))
    language, fields = (told.model, told.fields) if isinstance(told, Told) else (None, {})
    problems: list[Diagnostic] = []
    made: list[GgufTensor] = []
    for record in stored.graph.tensors:
        if record.alias is not None or (language is not None and not record.persistent):
            continue
        matrix = matrices.get(record.name)
        if matrix is not None and _scale_is_lost(matrix):
            problems.append(_cannot_hold(record.name, "a scale outside of half precision"))
        elif matrix is not None:
            made.append(_blocks(_reordered(matrix, language)))
        elif tensors[record.name].dtype in FLOAT_TYPES:
            made.append(_plain(record.name, tensors[record.name], language))
        else:
            problems.append(_cannot_hold(record.name, f"a tensor of {record.dtype}"))
    if language is not None and language.frequencies is not None:
        made.append(_plain(FREQUENCIES, language.frequencies))
    problems += [problem for tensor in made for problem in _unfitting(tensor)]
    if problems:
        return problems
    metadata = {
        "general.architecture": ARCHITECTURE if language is None else language.architecture,
        "general.quantization_version": 2,
        f"{ARCHITECTURE}.identity": stored.manifest.identity,
        **(_ties(stored) if language is None else fields),
    }
    return Exported(gguf_bytes(metadata, made), () if told is None else (_said(told),))


@dataclass(frozen=True, slots=True)
class Told:
    """A language model in the words of llama.cpp."""

    model: LanguageModel
    fields: Mapping[str, Value]
    """Hyperparameters, and the tokenizer."""


def language_of(
    description: Mapping[str, bytes], records: Iterable[TensorRecord], angles: Tensor | None
) -> Told | str | None:
    """A string says why llama.cpp does not run it; ``None``: it is no model of transformers.

    ``angles`` are those that the model turns places by, where they are known.
    """
    config = description.get(CONFIG)
    if config is None:
        return None
    own = (record for record in records if record.alias is None and record.persistent)
    shapes = {record.name: record.shape for record in own}
    language = language_model(config, shapes, angles)
    if isinstance(language, str):
        return language
    fields = tokenizer_fields(description, shapes[EMBEDDING][0])
    if isinstance(fields, str):
        return fields
    return Told(language, {**language.hyperparameters, **fields})


def check_reader(description: Mapping[str, bytes], graph: fx.GraphModule) -> list[Diagnostic]:
    """QR554 for a model of transformers that llama.cpp cannot run, before anything is spent."""
    table = tensor_table(graph)
    known = {item.record.name: item.tensor for item in table if not item.tensor.is_meta}
    told = language_of(description, (item.record for item in table), known.get(ANGLES))
    return [not_run_elsewhere(told)] if isinstance(told, str) else []


def _said(told: Told | str) -> str:
    if isinstance(told, str):
        return f"no program runs it, and tensors have the names of the PyTorch model: {told}"
    return f"llama.cpp runs it, as `{told.model.architecture}` with the model's tokenizer"


def _ties(stored: StoredArtifact) -> dict[str, str]:
    """A language model of a known architecture has its one tie by having no second matrix."""
    return {
        f"{ARCHITECTURE}.tied.{record.name}": record.alias
        for record in stored.graph.tensors
        if record.alias is not None
    }


def _reordered(matrix: PackedMatrix, language: LanguageModel | None) -> PackedMatrix:
    """Under its name in the file; rows go with their scales."""
    if language is None:
        return matrix
    named = replace(matrix, name=language.name(matrix.name))
    order = language.row_order(matrix.name, matrix.codes.shape[0])
    if order is None:
        return named
    rows = len(order)
    scale, zero = (value.expand(rows, -1)[order] for value in (matrix.scale, matrix.zero_point))
    return replace(named, codes=matrix.codes[order], scale=scale, zero_point=zero)


def _blocks(matrix: PackedMatrix) -> GgufTensor:
    """Scales of wider groups are repeated for each block."""
    ggml_type = BLOCK_TYPES[matrix.bits, matrix.plan.spec.symmetric]
    rows, columns = matrix.codes.shape
    blocks = columns // BLOCK
    codes = matrix.codes.reshape(rows * blocks, BLOCK)
    scale = _by_block(matrix.scale, rows, blocks)
    fields = [_half(scale)]
    if ggml_type in {GgmlType.Q4_1, GgmlType.Q5_1}:
        fields.append(_half(-scale * _by_block(matrix.zero_point, rows, blocks)))
    if ggml_type is GgmlType.Q8_0:
        fields.append((codes.to(torch.int16) - 128).to(torch.int8).view(torch.uint8))
    else:
        fields += _nibbles(codes, matrix.bits)
    data = torch.cat(fields, dim=1).contiguous().numpy().tobytes()
    return GgufTensor(matrix.name, ggml_type, (rows, columns), data)


def _nibbles(codes: Tensor, bits: int) -> list[Tensor]:
    """Byte ``i`` has the low four bits of the codes ``i`` and ``i + 16``; fifth bits go before."""
    low = codes & 0xF
    packed = low[:, :HALF] | low[:, HALF:] << 4
    if bits == 4:
        return [packed]
    fifth = (codes >> 4).reshape(-1, 4, 8)
    places = torch.arange(8, dtype=torch.uint8)
    return [(fifth << places).sum(2).to(torch.uint8), packed]


def _by_block(values: Tensor, rows: int, blocks: int) -> Tensor:
    """``[rows or 1, groups]`` to one number a block, ``[rows * blocks, 1]``."""
    groups = values.expand(rows, -1)
    return groups.repeat_interleave(blocks // groups.shape[1], dim=1).reshape(-1, 1)


def _half(values: Tensor) -> Tensor:
    return values.to(torch.float16).view(torch.uint8).reshape(values.shape[0], 2)


def _scale_is_lost(matrix: PackedMatrix) -> bool:
    """Above the range, in the denormal numbers, or with an offset above the range."""
    limits = torch.finfo(torch.float16)
    offset = matrix.scale * matrix.zero_point
    size = matrix.scale.abs()
    return bool(((size < limits.tiny) | (size > limits.max) | (offset > limits.max)).any())


def _plain(name: str, tensor: Tensor, language: LanguageModel | None = None) -> GgufTensor:
    if language is not None:
        order = language.row_order(name, tensor.shape[0])
        tensor = tensor if order is None else tensor[order]
        is_read_so = tensor.dim() > 1 and tensor.dtype in READ_TYPES
        tensor = tensor if is_read_so else tensor.to(torch.float32)
        name = language.name(name)
    plain = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return GgufTensor(name, FLOAT_TYPES[tensor.dtype], tuple(tensor.shape), plain)


def _unfitting(tensor: GgufTensor) -> list[Diagnostic]:
    problems: list[Diagnostic] = []
    if len(tensor.name.encode()) > MAX_NAME:
        problems.append(_cannot_hold(tensor.name, f"a name of more than {MAX_NAME} bytes"))
    if len(tensor.shape) > MAX_RANK:
        problems.append(_cannot_hold(tensor.name, f"a tensor of {len(tensor.shape)} axes"))
    return problems


def not_run_elsewhere(why: str) -> Diagnostic:
    """QR554."""
    return Diagnostic(
        Code.NOT_RUN_ELSEWHERE,
        f"llama.cpp will not run the `gguf` file: {why}",
        help="it holds the tensors under the names of the PyTorch model; `onnx` runs elsewhere",
    )


def _cannot_hold(name: str, what: str) -> Diagnostic:
    """QR550."""
    return Diagnostic(
        Code.EXPORT_FORMAT,
        f"`gguf` cannot hold {what}",
        subject=name,
        help="export to `onnx` or `pt2`",
    )

"""llama.cpp itself, by its C functions, out of the wheel ``xllamacpp``.

Two commands, each in a process of its own, with a request on standard input and an answer on
standard output: ``scores`` of all next tokens of some windows, and ``rounded``, a file whose
matrices llama.cpp has rounded by itself. Loads no torch and nothing of qcompile.
"""

import ctypes
import json
import sys
from collections.abc import Iterator
from ctypes import POINTER, Structure, c_bool, c_char, c_char_p, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize
from numpy.typing import NDArray

ROUNDED = GGMLQuantizationType.Q4_0
TABLE, TABLE_TYPE = "token_embd.weight", GGMLQuantizationType.Q8_0


class Settings(Structure):
    """A struct by value: ours is larger than theirs, whose default is taken as it is."""

    _fields_ = (("bytes", c_char * 2_048),)


class Batch(Structure):
    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(ctypes.c_int8)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    library: ctypes.CDLL
    model: int
    context: int
    words: int

    def tokens(self, text: str) -> list[int]:
        data = text.encode()
        place = (c_int32 * (len(data) + 2))()
        vocabulary = self.library.llama_model_get_vocab(self.model)
        given = (vocabulary, data, len(data), place, len(place), False, False)
        return list(place[: self.library.llama_tokenize(*given)])

    def scores(self, ids: list[int]) -> NDArray[np.float32]:
        """``[len(ids), words]``: not normalised, of what comes after each."""
        library = self.library
        batch = library.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for place, token in enumerate(ids):
            batch.token[place], batch.pos[place] = token, place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = 1
        library.llama_memory_clear(library.llama_get_memory(self.context), True)
        assert library.llama_decode(self.context, batch) == 0
        found = [
            np.ctypeslib.as_array(library.llama_get_logits_ith(self.context, place), (self.words,))
            for place in range(len(ids))
        ]
        scores = np.stack(found)
        library.llama_batch_free(batch)
        return scores


def opened() -> ctypes.CDLL:
    spec = find_spec("xllamacpp")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("xllamacpp is not installed: `make bench-language` installs it")
    library = ctypes.CDLL(str(Path(spec.submodule_search_locations[0], "xllamacpp.abi3.so")))
    for name, result, arguments in (
        ("llama_model_default_params", Settings, ()),
        ("llama_context_default_params", Settings, ()),
        ("llama_model_load_from_file", c_void_p, (c_char_p, Settings)),
        ("llama_init_from_model", c_void_p, (c_void_p, Settings)),
        ("llama_model_get_vocab", c_void_p, (c_void_p,)),
        ("llama_vocab_n_tokens", c_int32, (c_void_p,)),
        ("llama_set_n_threads", None, (c_void_p, c_int32, c_int32)),
        ("llama_get_memory", c_void_p, (c_void_p,)),
        ("llama_memory_clear", None, (c_void_p, c_bool)),
        ("llama_batch_init", Batch, (c_int32, c_int32, c_int32)),
        ("llama_batch_free", None, (Batch,)),
        ("llama_decode", c_int32, (c_void_p, Batch)),
        ("llama_get_logits_ith", POINTER(c_float), (c_void_p, c_int32)),
        (
            "llama_tokenize",
            c_int32,
            (c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool),
        ),
        (
            "ggml_quantize_chunk",
            ctypes.c_size_t,
            (c_int32, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p),
        ),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.llama_backend_init()
    return library


def loaded(path: str, threads: int) -> Model:
    library = opened()
    model = library.llama_model_load_from_file(path.encode(), library.llama_model_default_params())
    if not model:
        raise ValueError(f"llama.cpp does not load {path}")
    context = library.llama_init_from_model(model, library.llama_context_default_params())
    library.llama_set_n_threads(context, threads, threads)
    words = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))
    return Model(library, model, context, words)


@dataclass(frozen=True, slots=True)
class Scores:
    file: str
    text: str
    windows: list[list[int]]
    output: str
    """Arrays ``OUTPUT-0.npy`` and on, one a window."""
    threads: int


def scores(asked: Scores) -> dict[str, object]:
    """Of ``file``: the tokens of ``text``, and what comes after each token of ``windows``."""
    model = loaded(asked.file, asked.threads)
    for number, ids in enumerate(asked.windows):
        np.save(f"{asked.output}-{number}.npy", model.scores(ids))
    return {"tokens": model.tokens(asked.text)}


@dataclass(frozen=True, slots=True)
class Rounding:
    file: str
    output: str
    importance: str | None
    """An ``.npz`` of the mean squares of what each matrix reads, by its name."""


def rounded(asked: Rounding) -> dict[str, object]:
    """``file`` with its matrices in ``ROUNDED``, and the table of words in ``TABLE_TYPE``."""
    library, reader = opened(), GGUFReader(asked.file)
    importance = np.load(asked.importance) if asked.importance else {}
    writer = GGUFWriter(asked.output, reader.fields["general.architecture"].contents())
    _copy_metadata(reader, writer)
    for name, values in _matrices(reader):
        if values.ndim == 1:
            writer.add_tensor(name, values)
            continue
        kind = TABLE_TYPE if name == TABLE else ROUNDED
        weights = importance[name].astype(np.float32) if name in importance else None
        data = _rounded(library, kind, values, weights)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {}


def _copy_metadata(reader: GGUFReader, writer: GGUFWriter) -> None:
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        inner = field.types[1] if field.types[0] is GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)


def _matrices(reader: GGUFReader) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for tensor in reader.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        values = dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        yield tensor.name, np.ascontiguousarray(values, np.float32)


def _rounded(
    library: ctypes.CDLL,
    kind: GGMLQuantizationType,
    values: NDArray[np.float32],
    importance: NDArray[np.float32] | None,
) -> NDArray[np.uint8]:
    rows, columns = values.shape
    made = np.zeros(values.size * (34 if kind is TABLE_TYPE else 18) // 32, np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance).ctypes.data
    size = library.ggml_quantize_chunk(
        int(kind), values.ctypes.data, made.ctypes.data, 0, rows, columns, weights
    )
    assert size == made.size, (size, made.size)
    return made.reshape(rows, -1)


if __name__ == "__main__":
    given = json.load(sys.stdin)
    is_scores = sys.argv[1] == "scores"
    found = scores(Scores(**given)) if is_scores else rounded(Rounding(**given))
    json.dump(found, sys.stdout)

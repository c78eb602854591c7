"""``hf:DIR``: a folder as ``save_pretrained`` leaves it; its ``config.json`` alone makes a preview.

Nothing is downloaded, and no code of the folder is run: the architecture is a class of the
``transformers`` package (the ``[hf]`` extra), named in ``config.json``.
"""

import importlib
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from qcompile.data.project import Project
from qcompile.data.purpose import MODEL
from qcompile.data.reference import HuggingFaceReference, parse_reference
from qcompile.data.user_code import Raised, raised, run_user_code
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.suggest import did_you_mean

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
DESCRIPTION = (
    *(CONFIG, "generation_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja", "chat_template.json"),
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
)
"""What a folder has beside its weights, and its model needs to be loaded and to be fed."""
MAX_DESCRIPTION_BYTES = 128 << 20
"""Of one file: an artifact has them beside its tensors."""
ROWS, LENGTH = 2, 16
"""Of the example: more than one row, or the batch would be taken for a size that is always 1."""


class Config(Protocol):
    """What we read and set of a ``transformers.PreTrainedConfig``."""

    use_cache: bool
    dtype: torch.dtype | None


class Architecture(Protocol):
    """A class of models, as ``transformers`` defines it."""

    def __call__(self, config: Config) -> nn.Module: ...

    def from_pretrained(self, directory: str, **options: object) -> nn.Module: ...


@dataclass(frozen=True, slots=True)
class Pretrained:
    module: nn.Module
    example_inputs: tuple[Tensor, ...] | None
    """Of the model's main input, where its config says enough of it."""
    description: Mapping[str, bytes]
    """Those of ``DESCRIPTION`` that are there."""


class Bars(Protocol):
    """What we call of ``transformers.utils.logging``."""

    def is_progress_bar_enabled(self) -> bool: ...

    def disable_progress_bar(self) -> None: ...

    def enable_progress_bar(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Described:
    """What ``config.json`` says, as ``transformers`` reads it."""

    architecture: Architecture
    config: Config
    bars: Bars


def build_pretrained(directory: Path, project: Project, *, empty: bool) -> Pretrained | Diagnostic:
    """The model in ``directory`` with its weights; ``empty``: on the meta device, without them."""
    found = _described(directory, project)
    if isinstance(found, Diagnostic):
        return found
    if not empty and not any((directory / name).exists() for name in WEIGHTS):
        return no_weights(directory)
    found.config.use_cache = False  # a cache is state between calls: the graph has none

    def build() -> nn.Module:
        if not empty:
            with _without_bars(found.bars):
                return found.architecture.from_pretrained(
                    str(directory),
                    config=found.config,
                    local_files_only=True,
                    use_safetensors=True,
                    dtype="auto",
                )
        with torch.device("meta"):
            return found.architecture(found.config).to(found.config.dtype or torch.float32)

    module = run_user_code(build, project)
    if isinstance(module, Raised):
        return raised(f"hf:{directory.name}", module, MODEL)
    description = _description(directory)
    if isinstance(description, Diagnostic):
        return description
    return Pretrained(module.eval(), _example(module, found.config), description)


def _description(directory: Path) -> dict[str, bytes] | Diagnostic:
    found: dict[str, bytes] = {}
    for path in (directory / name for name in DESCRIPTION):
        try:
            if not path.exists():
                continue
            if path.stat().st_size > MAX_DESCRIPTION_BYTES:
                return unreadable_config(path, f"it is larger than {MAX_DESCRIPTION_BYTES} bytes")
            found[path.name] = path.read_bytes()
        except OSError as error:
            return unreadable_config(path, (error.strerror or str(error)).lower())
    return found


def class_names(model: str | None, project: Project) -> Mapping[str, int] | None:
    """The numbers of a model's classes by name, where its folder has names that tell anything."""
    folder = None if model is None else parse_reference(model, MODEL)
    if not isinstance(folder, HuggingFaceReference):
        return None
    try:
        document: object = json.loads((project.directory / folder.directory / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):  # the model itself says what is wrong
        return None
    named = cast("Mapping[str, object]", document) if isinstance(document, dict) else {}
    match named.get("label2id"):
        case dict() as given:
            found = {str(k): v for k, v in cast("dict[object, object]", given).items()}
        case _:
            return None
    numbers = {name: number for name, number in found.items() if isinstance(number, int)}
    is_told = any(name != f"LABEL_{number}" for name, number in numbers.items())
    return numbers if is_told else None


def _described(directory: Path, project: Project) -> _Described | Diagnostic:
    path = directory / CONFIG
    try:
        document: object = json.loads(path.read_bytes())
    except OSError as error:
        return unreadable_config(path, (error.strerror or str(error)).lower())
    except (ValueError, RecursionError):
        return unreadable_config(path, "it is not JSON")
    named = cast("Mapping[str, object]", document) if isinstance(document, dict) else {}
    match named.get("architectures"):
        case [str(name), *_]:
            pass
        case _:
            return unreadable_config(path, "it names no `architectures`")
    package = run_user_code(lambda: importlib.import_module("transformers"), project)
    if isinstance(package, Raised):
        return no_transformers(directory)
    architecture = _architecture(package, name)
    if architecture is None:
        return no_architecture(name, path, vars(package))
    config = run_user_code(lambda: _config(package, directory), project)
    if isinstance(config, Raised):
        return raised(f"hf:{directory.name}", config, MODEL)
    return _Described(architecture, config, cast("Bars", package.utils.logging))


@contextmanager
def _without_bars(bars: Bars) -> Generator[None]:
    """Its bars of progress would come between what the command says."""
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _architecture(package: ModuleType, name: str) -> Architecture | None:
    found = cast("object", getattr(package, name, None))
    base = cast("type", package.PreTrainedModel)
    is_model = isinstance(found, type) and issubclass(found, base)
    return cast("Architecture", found) if is_model else None


def _config(package: ModuleType, directory: Path) -> Config:
    read = package.AutoConfig.from_pretrained
    return cast("Config", read(str(directory), local_files_only=True, trust_remote_code=False))


def _example(module: nn.Module, config: Config) -> tuple[Tensor, ...] | None:
    match getattr(module, "main_input_name", None):
        case "input_ids":
            return (torch.ones((ROWS, LENGTH), dtype=torch.int64),)
        case "pixel_values":
            size, channels = getattr(config, "image_size", None), getattr(config, "num_channels", 3)
            if not isinstance(size, int):
                return None
            shape = (ROWS, channels, size, size)
            generator = torch.Generator().manual_seed(0)
            return (torch.randn(shape, generator=generator).to(config.dtype or torch.float32),)
        case _:
            return None


def unreadable_config(path: Path, why: str) -> Diagnostic:
    """QR520: the folder is not that of a pretrained model."""
    return Diagnostic(
        Code.MODEL_REFERENCE,
        f"`{path.name}` of the model cannot be read: {why}",
        subject=str(path),
        help="name a folder that `save_pretrained` has written, relative to the recipe",
    )


def no_architecture(name: str, path: Path, known: Mapping[str, object]) -> Diagnostic:
    """QR520: the class is not one of the package; code beside the config is never run."""
    return Diagnostic(
        Code.MODEL_REFERENCE,
        f"`transformers` has no model `{name}`",
        subject=str(path),
        help=did_you_mean(name, known)
        or "write a function that returns the model, and name it `module:function`",
    )


def no_weights(directory: Path) -> Diagnostic:
    """QR522: there is a config alone, or weights in a format that can run code."""
    return Diagnostic(
        Code.WEIGHT_FILE,
        f"`{directory.name}` has no `{WEIGHTS[0]}`",
        subject=f"hf:{directory.name}",
        help="a config alone is enough for `--preview`; pickled weights are never read",
    )


def no_transformers(directory: Path) -> Diagnostic:
    """QR520: the extra is not installed."""
    return Diagnostic(
        Code.MODEL_REFERENCE,
        "`hf:` references need the package `transformers`",
        subject=f"hf:{directory.name}",
        help="install it: `pip install 'qcompile[hf]'`",
    )

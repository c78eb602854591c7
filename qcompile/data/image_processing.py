"""What a decoded picture goes through on its way into a model.

Either the ``images`` of a recipe, which are the usual steps of an evaluation in torchvision's
arithmetic, or the processor that a ``hf:`` folder describes, which ``transformers`` runs itself.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias, cast

import torch
from torch import Tensor

from qcompile.data.project import Project
from qcompile.data.purpose import DATA, MODEL
from qcompile.data.reading import Reading
from qcompile.data.reference import HuggingFaceReference, parse_reference
from qcompile.data.source_kinds import unusable
from qcompile.data.user_code import Raised, raised, run_user_code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.policy.images import Images, Interpolation

PROCESSOR = "preprocessor_config.json"
MODES: Mapping[int, str] = {1: "L", 3: "RGB"}
"""Of ``PIL``, by the number of channels."""
RESAMPLING: Mapping[Interpolation, int] = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}
"""Of ``PIL``."""
BYTE = 255


class Picture(Protocol):
    """What we use of a ``PIL.Image.Image``."""

    @property
    def mode(self) -> str: ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        ...

    def convert(self, mode: str) -> "Picture": ...

    def resize(self, size: tuple[int, int], resample: int) -> "Picture": ...

    def crop(self, box: tuple[int, int, int, int]) -> "Picture": ...

    def tobytes(self) -> bytes: ...


Processing: TypeAlias = Callable[[Picture], Tensor]
"""To ``[channels, height, width]``; raises ``ValueError`` where the picture is too small."""


def find_processing(reference: str, reading: Reading, project: Project) -> Processing | Diagnostic:
    """That of the recipe, else that of the model's folder."""
    if reading.images is not None:
        settings = reading.images
        return lambda picture: processed(picture, settings)
    folder = None if reading.model is None else parse_reference(reading.model, MODEL)
    if not isinstance(folder, HuggingFaceReference):
        return no_processing(reference, "the model says nothing of pictures")
    directory = project.directory / folder.directory
    if not (directory / PROCESSOR).is_file():
        return no_processing(reference, f"`{folder.directory}` has no `{PROCESSOR}`")
    processor = run_user_code(lambda: _processor(directory), project)
    if isinstance(processor, Raised):
        return raised(f"{folder.directory}/{PROCESSOR}", processor, DATA)
    return lambda picture: _of_pretrained(processor, picture)


def processed(picture: Picture, images: Images) -> Tensor:
    """Resize, crop in the middle, divide by 255, less the mean, by the deviation."""
    picture = picture.convert(MODES[images.channels])
    width, height = _resized(picture.size, images)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), RESAMPLING[images.interpolation])
    if images.crop is not None:
        picture = picture.crop(_middle((width, height), images.crop))
        height, width = images.crop
    raw = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    pixels = raw.view(height, width, images.channels).permute(2, 0, 1).contiguous()
    mean, std = (
        torch.tensor(given, dtype=torch.float32).view(-1, 1, 1)
        for given in (images.mean, images.std)
    )
    return pixels.to(torch.float32).div_(BYTE).sub_(mean).div_(std)


def _resized(size: tuple[int, int], images: Images) -> tuple[int, int]:
    """Width and height; a single number is that of the shorter side, the other is cut to whole."""
    width, height = size
    match images.resize:
        case None:
            return size
        case (tall, wide):
            return wide, tall
        case shorter if width <= height:
            return shorter, int(shorter * height / width)
        case shorter:
            return int(shorter * width / height), shorter


def _middle(size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int, int, int]:
    (width, height), (tall, wide) = size, crop
    if tall > height or wide > width:
        raise ValueError(f"it has {height} x {width} pixels, and `crop` takes {tall} x {wide}")
    left, top = round((width - wide) / 2), round((height - tall) / 2)
    return left, top, left + wide, top + tall


class Processor(Protocol):
    """What we use of an image processor of ``transformers``."""

    def __call__(self, images: object, *, return_tensors: str) -> Mapping[str, object]: ...


def _processor(directory: Path) -> Processor:
    """In the arithmetic of Pillow, where this version of the package lets us choose."""
    read = importlib.import_module("transformers").AutoImageProcessor.from_pretrained
    options = {"local_files_only": True, "trust_remote_code": False, "backend": "pil"}
    return cast("Processor", read(str(directory), **options))


def _of_pretrained(processor: Processor, picture: Picture) -> Tensor:
    made = processor(picture.convert("RGB"), return_tensors="pt").get("pixel_values")
    if not isinstance(made, Tensor) or made.dim() != 4 or made.shape[0] != 1:
        raise ValueError("its processor makes no `pixel_values` of one picture")
    return made[0]


def no_processing(reference: str, why: str) -> Diagnostic:
    """QR710: nothing says what size pictures have for the model, and how numbers are scaled."""
    return unusable(
        reference,
        f"needs to know how pictures become inputs, and {why}",
        "say it in the `model` statement: `images = { resize = 256, crop = 224, mean = [...],"
        " std = [...] }`",
    )

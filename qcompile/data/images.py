"""``images:DIR``: the pictures below a folder, decoded whenever they are read."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor

from qcompile.data.batches import Batch
from qcompile.data.hugging_face import class_names
from qcompile.data.image_folder import ImageFolder, image_folder, shown
from qcompile.data.image_processing import Picture, Processing, find_processing
from qcompile.data.project import Project
from qcompile.data.reading import Reading
from qcompile.data.source_kinds import unusable
from qcompile.data.user_code import Raised, run_user_code
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Of ``PIL``: it would start other programs for some of the others, whatever a file is called."""
LABELS = "label"
DEEP = ("F", "I")
"""First letters of the modes of ``PIL`` that hold more than a byte: converting cuts them off."""


class Opener(Protocol):
    """What we use of ``PIL.Image``."""

    def open(self, file: Path, *, formats: Sequence[str]) -> AbstractContextManager[Picture]: ...


@dataclass(frozen=True, slots=True)
class ImageSource:
    name: str
    folder: Path
    listed: ImageFolder
    opener: Opener
    processing: Processing
    project: Project

    @property
    def labels(self) -> str | None:
        return None if self.listed.classes is None else LABELS

    def __len__(self) -> int:
        return len(self.listed.files)

    def batches(self, size: int) -> Iterator[Batch]:
        for start in range(0, len(self), size):
            yield self.read(range(start, min(start + size, len(self))))

    def read(self, indices: Sequence[int]) -> Batch:
        """Raises ``CompileError`` (QR710) where a file is no picture, or one of another size."""
        files, classes = self.listed.files, self.listed.classes
        pictures = [self._decoded(files[index]) for index in indices]
        for index, picture in zip(indices, pictures, strict=True):
            if picture.shape != pictures[0].shape:
                sizes = f"{list(pictures[0].shape)} and {list(picture.shape)}"
                raise CompileError([other_size(self.name, files[index], sizes)])
        made = torch.stack(pictures)
        return made if classes is None else (made, torch.tensor([classes[i] for i in indices]))

    def _decoded(self, file: str) -> Tensor:
        made = run_user_code(lambda: self._tensor(self.folder / file), self.project)
        if isinstance(made, Raised):
            raise CompileError([unreadable(self.name, file, made.text)])
        return made

    def _tensor(self, path: Path) -> Tensor:
        with self.opener.open(path, formats=FORMATS) as picture:
            if picture.mode[0] in DEEP:
                raise ValueError(f"its numbers have more than 8 bits (mode {picture.mode})")
            return self.processing(picture)


def open_images(
    reference: str, folder: Path, reading: Reading, project: Project
) -> ImageSource | Diagnostic:
    opener = run_user_code(lambda: importlib.import_module("PIL.Image"), project)
    if isinstance(opener, Raised):
        return no_package(reference)
    try:
        processing = find_processing(reference, reading, project)
        listed = image_folder(reference, folder, class_names(reading.model, project))
    except OSError as error:
        return unusable(reference, f"cannot be listed: {(error.strerror or str(error)).lower()}")
    for found in (listed, processing):
        if isinstance(found, Diagnostic):
            return found
    return ImageSource(
        name=reference,
        folder=folder,
        listed=cast("ImageFolder", listed),
        opener=cast("Opener", opener),
        processing=cast("Processing", processing),
        project=project,
    )


def no_package(reference: str) -> Diagnostic:
    """QR710: the extra is not installed."""
    return unusable(
        reference, "needs the package `pillow`", "install it: `pip install 'qcompile[images]'`"
    )


def unreadable(reference: str, file: str, why: str) -> Diagnostic:
    """QR710: cut off, of another format, or too small for the model."""
    return Diagnostic(
        Code.DATA_REFERENCE,
        f"`{shown(file)}` of `{reference}` cannot be used",
        subject=reference,
        notes=(why,),
        help="remove the file, or replace it",
    )


def other_size(reference: str, file: str, sizes: str) -> Diagnostic:
    """QR710: the model's processor keeps the proportions of pictures."""
    return unusable(
        reference,
        f"has pictures of several sizes for the model, {sizes} (`{shown(file)}`)",
        "say in the `model` statement how they become one: `images = { resize = 256, crop = 224,"
        " ... }`",
    )

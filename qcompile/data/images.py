"""``images:DIR``: the pictures below a folder, decoded whenever they are read.

Folders in it are classes, as elsewhere: their order by name is their number, or their names are
their numbers. Pictures that lie in no such folder have no labels.
"""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor

from qcompile.data.batches import Batch
from qcompile.data.image_processing import Picture, Processing, find_processing
from qcompile.data.project import Project
from qcompile.data.reading import Reading
from qcompile.data.source_kinds import unusable
from qcompile.data.user_code import Raised, run_user_code
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
LABELS = "label"
DEEP = ("F", "I")
"""First letters of the modes of ``PIL`` that hold more than a byte: converting cuts them off."""


class Opener(Protocol):
    """What we use of ``PIL.Image``."""

    def open(self, file: Path) -> AbstractContextManager[Picture]: ...


@dataclass(frozen=True, slots=True)
class ImageSource:
    name: str
    folder: Path
    files: tuple[str, ...]
    """Relative to ``folder``, in the order of their names."""
    classes: tuple[int, ...] | None
    """The class of each file."""
    ordered_classes: int | None
    """How many there are, where nothing but their order by name gives them their numbers."""
    opener: Opener
    processing: Processing
    project: Project

    @property
    def labels(self) -> str | None:
        return None if self.classes is None else LABELS

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, size: int) -> Iterator[Batch]:
        for start in range(0, len(self), size):
            yield self.read(range(start, min(start + size, len(self))))

    def read(self, indices: Sequence[int]) -> Batch:
        """Raises ``CompileError`` (QR710) where a file is no picture, or one of another size."""
        pictures = [self._decoded(self.files[index]) for index in indices]
        for index, picture in zip(indices, pictures, strict=True):
            if picture.shape != pictures[0].shape:
                sizes = f"{list(pictures[0].shape)} and {list(picture.shape)}"
                raise CompileError([other_size(self.name, self.files[index], sizes)])
        made = torch.stack(pictures)
        if self.classes is None:
            return made
        return made, torch.tensor([self.classes[index] for index in indices])

    def _decoded(self, file: str) -> Tensor:
        made = run_user_code(lambda: self._tensor(self.folder / file), self.project)
        if isinstance(made, Raised):
            raise CompileError([unreadable(self.name, file, made.text)])
        return made

    def _tensor(self, path: Path) -> Tensor:
        with self.opener.open(path) as picture:
            if picture.mode[0] in DEEP:
                raise ValueError(f"its numbers have more than 8 bits (mode {picture.mode})")
            return self.processing(picture)


def open_images(
    reference: str, folder: Path, reading: Reading, project: Project
) -> ImageSource | Diagnostic:
    opener = run_user_code(lambda: importlib.import_module("PIL.Image"), project)
    if isinstance(opener, Raised):
        return no_package(reference)
    if not folder.is_dir():
        return unusable(reference, "is no folder", "name one relative to the recipe")
    processing = find_processing(reference, reading, project)
    if isinstance(processing, Diagnostic):
        return processing
    try:
        loose, by_class = _loose(folder), _by_class(folder)
    except OSError as error:
        return unusable(reference, f"cannot be listed: {(error.strerror or str(error)).lower()}")
    if loose and by_class:
        return mixed(reference, loose[0], next(iter(by_class)))
    if not loose and not by_class:
        return no_pictures(reference)
    numbers = _numbers(list(by_class))
    labelled = [
        (file, number)
        for number, found in zip(numbers, by_class.values(), strict=True)
        for file in found
    ]
    return ImageSource(
        name=reference,
        folder=folder,
        files=tuple(loose or (file for file, _ in labelled)),
        classes=tuple(number for _, number in labelled) if labelled else None,
        ordered_classes=len(by_class) if numbers == list(range(len(by_class))) else None,
        opener=cast("Opener", opener),
        processing=processing,
        project=project,
    )


def _loose(folder: Path) -> list[str]:
    """Pictures that lie in the folder itself."""
    return sorted(path.name for path in folder.iterdir() if _is_picture(path))


def _by_class(folder: Path) -> dict[str, list[str]]:
    """Those at any depth of each folder in it, by its name; a link to a folder is one."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and _is_shown(path))
    found = {name: sorted(_below(folder, folder / name)) for name in names}
    return {name: files for name, files in found.items() if files}


def _below(folder: Path, inner: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in inner.rglob("*") if _is_picture(path))


def _is_picture(path: Path) -> bool:
    return _is_shown(path) and path.suffix.lower() in SUFFIXES and path.is_file()


def _is_shown(path: Path) -> bool:
    """Some systems leave a hidden file beside each picture."""
    return not path.name.startswith(".")


def _numbers(names: Sequence[str]) -> list[int]:
    """Of classes: their names, where all of these are numbers, else their places."""
    if all(name.isascii() and name.isdigit() for name in names):
        return [int(name) for name in names]
    return list(range(len(names)))


def no_package(reference: str) -> Diagnostic:
    """QR710: the extra is not installed."""
    return unusable(
        reference, "needs the package `pillow`", "install it: `pip install 'qcompile[images]'`"
    )


def mixed(reference: str, picture: str, folder: str) -> Diagnostic:
    """QR710: some pictures would have a class, and some none."""
    return unusable(
        reference,
        f"has pictures in folders, such as `{folder}`, which are classes, and beside them, such as"
        f" `{picture}`",
        "move those away, or name a folder that has no others in it",
    )


def no_pictures(reference: str) -> Diagnostic:
    """QR711: nothing that we take for a picture."""
    return Diagnostic(
        Code.EMPTY_DATA,
        f"`{reference}` has no pictures",
        subject=reference,
        notes=(f"pictures are files that end in {', '.join(SUFFIXES)}",),
    )


def unreadable(reference: str, file: str, why: str) -> Diagnostic:
    """QR710: cut off, of another format, or too small for the model."""
    return Diagnostic(
        Code.DATA_REFERENCE,
        f"`{file}` of `{reference}` cannot be used",
        subject=reference,
        notes=(why,),
        help="remove the file, or replace it",
    )


def other_size(reference: str, file: str, sizes: str) -> Diagnostic:
    """QR710: the model's processor keeps the proportions of pictures."""
    return unusable(
        reference,
        f"has pictures of several sizes for the model, {sizes} (`{file}`)",
        "say in the `model` statement how they become one: `images = { resize = 256, crop = 224,"
        " ... }`",
    )

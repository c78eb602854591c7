"""Which pictures a folder has, and of what classes they are.

Folders in it are classes, as elsewhere: the model may have numbers for their names, their names may
be numbers, else their order is. Pictures that lie in no such folder have no labels.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompile.data.source_kinds import unusable
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.suggest import did_you_mean

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
LONGEST_NUMBER = 9
"""Digits of a class; longer names are dates and the like."""


@dataclass(frozen=True, slots=True)
class ImageFolder:
    files: tuple[str, ...]
    """Relative to the folder, class by class, in the order of their names."""
    classes: tuple[int, ...] | None
    """The class of each file; ``None`` where pictures lie in no folder of a class."""
    ordered_classes: int | None
    """How many there are, where nothing but their order by name gives them their numbers."""


def image_folder(
    reference: str, folder: Path, known: Mapping[str, int] | None
) -> ImageFolder | Diagnostic:
    """``known`` are the model's numbers by name. Raises ``OSError`` where something is closed."""
    if not folder.is_dir():
        return unusable(reference, "is no folder", "name one relative to the recipe")
    loose, by_class = _loose(folder), _by_class(folder)
    filled = [name for name, files in by_class.items() if files]
    if loose and filled:
        return mixed(reference, loose[0], filled[0])
    if loose:
        return ImageFolder(tuple(loose), None, None)
    if not filled:
        return no_pictures(reference)
    if len(filled) < len(by_class):
        return empty_class(reference, next(name for name in by_class if name not in filled))
    numbers = _numbers(reference, filled, known)
    if isinstance(numbers, Diagnostic):
        return numbers
    pairs = [(file, numbers.of[name]) for name, files in by_class.items() for file in files]
    return ImageFolder(
        files=tuple(file for file, _ in pairs),
        classes=tuple(number for _, number in pairs),
        ordered_classes=len(filled) if numbers.are_by_order else None,
    )


def _loose(folder: Path) -> list[str]:
    """Pictures that lie in the folder itself."""
    return sorted(
        path.name for path in folder.iterdir() if _is_picture(path.name) and path.is_file()
    )


def _by_class(folder: Path) -> dict[str, list[str]]:
    """Those at any depth of each folder in it, by its name; a link to another folder is one."""
    around = {folder.resolve(), *folder.resolve().parents}
    names = sorted(
        path.name
        for path in folder.iterdir()
        if _is_shown(path.name) and path.is_dir() and path.resolve() not in around
    )
    return {name: sorted(_below(folder, folder / name)) for name in names}


def _below(folder: Path, inner: Path) -> Iterator[str]:
    """Raises ``OSError`` where a folder cannot be read; links deeper down are not followed."""

    def fail(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(inner, onerror=fail):
        folders[:] = filter(_is_shown, folders)
        relative = Path(place).relative_to(folder)
        yield from ((relative / name).as_posix() for name in files if _is_picture(name))


def _is_picture(name: str) -> bool:
    return _is_shown(name) and Path(name).suffix.lower() in SUFFIXES


def _is_shown(name: str) -> bool:
    """Some systems leave a hidden file beside each picture."""
    return not name.startswith(".")


@dataclass(frozen=True, slots=True)
class _Numbers:
    of: Mapping[str, int]
    are_by_order: bool


def _numbers(
    reference: str, names: Sequence[str], known: Mapping[str, int] | None
) -> _Numbers | Diagnostic:
    """Those that the model has for these names, else the names themselves, else their places."""
    if known is not None:
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            return unknown_class(reference, unknown, known)
        return _Numbers({name: known[name] for name in names}, are_by_order=False)
    if not all(name.isascii() and name.isdigit() and len(name) <= LONGEST_NUMBER for name in names):
        return _Numbers({name: place for place, name in enumerate(names)}, are_by_order=True)
    by_number: dict[int, str] = {}
    for name in names:
        if int(name) in by_number:
            return one_class_twice(reference, by_number[int(name)], name)
        by_number[int(name)] = name
    return _Numbers({name: number for number, name in by_number.items()}, are_by_order=False)


def mixed(reference: str, picture: str, folder: str) -> Diagnostic:
    """QR710: some pictures would have a class, and some none."""
    return unusable(
        reference,
        f"has pictures in folders, such as `{shown(folder)}`, which are classes, and beside them,"
        f" such as `{shown(picture)}`",
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


def empty_class(reference: str, name: str) -> Diagnostic:
    """QR710: left out, it would give those behind it other numbers."""
    return unusable(
        reference,
        f"has no pictures in `{shown(name)}`, which is a class",
        "remove the folder, or hide it (`.name`)",
    )


def one_class_twice(reference: str, first: str, second: str) -> Diagnostic:
    """QR710: ``1`` and ``01``."""
    return unusable(
        reference,
        f"has two folders for one class, `{first}` and `{second}`",
        "put the pictures of a class into one folder",
    )


def unknown_class(reference: str, name: str, known: Mapping[str, int]) -> Diagnostic:
    """QR710: the model names its classes, and this is none."""
    return unusable(
        reference,
        f"has a folder `{shown(name)}`, and the model has no class of that name",
        did_you_mean(name, known) or "name folders as `label2id` of its `config.json` does",
    )


def shown(name: str) -> str:
    """A name of the file system on one line."""
    return "".join(char if char.isprintable() else "?" for char in name)

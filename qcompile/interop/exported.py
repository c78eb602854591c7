"""What an export came to, before it is written."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exported:
    files: bytes | dict[str, bytes]
    """Of the file, or of each file of the directory."""
    notes: tuple[str, ...] = ()
    """What its reader can and cannot do with it."""

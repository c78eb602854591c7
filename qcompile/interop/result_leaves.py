"""The tensors of a nested result, under names made of its keys and positions."""

from collections.abc import Iterator, Sequence
from typing import cast


def leaves(result: object, path: str = "") -> Iterator[tuple[str, object]]:
    """``{"a": x, "b": (y, z)}`` has ``a``, ``b.0``, ``b.1``; a bare tuple ``output.0``."""
    match result:
        case dict():
            pairs = cast("dict[str, object]", result).items()
        case tuple() | list():
            pairs = enumerate(cast("Sequence[object]", result))
        case _:
            yield path, result
            return
    for key, item in pairs:
        prefix = path or ("" if isinstance(key, str) else "output")
        yield from leaves(item, f"{prefix}.{key}" if prefix else str(key))

"""What the language says of ``prepare rotate``."""

ROTATE, BALANCE = "rotate", "balance"
LARGEST_BLOCK = 1024
"""Of neighbours that are rotated together; a power of two, whose table has 4 MB at most."""
USUAL_BLOCK = 128
"""Where a recipe does not say, the largest power of two up to this that divides the inputs."""

LOOKED_AT = 8
"""Batches of the calibration data, the first, from which channels are balanced."""


def is_block(size: int) -> bool:
    return 2 <= size <= LARGEST_BLOCK and not size & (size - 1)

"""A unit: a stretch of the graph that is run, quantized and committed as one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """Neighbouring nodes ``nodes`` (names, in graph order; never placeholders, never get_attr).

    Units partition the graph: every node that computes is in exactly one, and the values a unit
    reads were made by placeholders or by earlier units. Parameters are not part of the interface.
    """

    name: str
    """The block's module path, a recipe's group name, or the first site of a left-over stretch."""
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    """Names of the nodes outside whose values are read, in first-use order."""
    outputs: tuple[str, ...]
    """Names of the nodes inside whose values are read outside (the graph output included)."""
    is_block: bool

"""Which scheme of its `choose` line each site takes."""

from collections.abc import Mapping
from dataclasses import field

from qcompile.diagnostics.frozen import frozen


@frozen
class Rungs:
    """``taken``: schemes by the key of the site; all others stand on the rung ``otherwise``.

    Rungs count from the fewest bits; a ladder that is shorter ends on its last.
    """

    taken: Mapping[str, str] = field(default_factory=dict[str, str])
    otherwise: int = 0

    def scheme(self, key: str, ladder: tuple[str, ...]) -> str:
        named = self.taken.get(key)
        return named if named in ladder else ladder[min(self.otherwise, len(ladder) - 1)]


FEWEST_BITS = Rungs()
"""Before anything is chosen."""

"""When a walk over the units of a graph makes a node's value, and reads it for the last time."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from torch import fx

from qcompile.capture.unit import Unit


class Lifetimes:
    """Places count the nodes of all units; what is computed before the first unit has none."""

    def __init__(self, nodes: Iterable[fx.Node], units: Sequence[Unit]) -> None:
        order = [name for unit in units for name in unit.nodes]
        self.place = {name: place for place, name in enumerate(order)}
        self.last_read = {
            node.name: max((self.place.get(user.name, -1) for user in node.users), default=-1)
            for node in nodes
        }
        """-1 where only the output reads it."""

    def over(self, live: Iterable[str], place: int, held: AbstractSet[str]) -> list[str]:
        """Which of ``live`` nothing reads after the node at ``place``; ``held`` stay."""
        return [name for name in live if self.last_read[name] <= place and name not in held]


def is_result(node: fx.Node) -> bool:
    """The network's output reads it, and nothing else does."""
    return bool(node.users) and all(user.op == "output" for user in node.users)

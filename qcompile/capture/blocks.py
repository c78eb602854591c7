"""Cut a captured graph into the units that are quantized one after another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, pairwise

from torch import fx

from qcompile.capture.block_search import BlockSearch, positions_of_layers
from qcompile.capture.sites import find_sites
from qcompile.capture.stretches import Apart, Stretch, calls_by_path, computing_nodes
from qcompile.capture.unit import Unit
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.policy.site import Site


def find_units(
    module: fx.GraphModule,
    *,
    each: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    sites: tuple[Site, ...] | None = None,
) -> tuple[tuple[Unit, ...], list[Diagnostic]]:
    """Units in execution order; together they hold every node that computes, each once.

    ``each`` names the modules that are blocks, in place of those found by ``BlockSearch``;
    ``groups`` joins modules into one block. What no block covers is cut into one unit a layer.
    ``sites`` are those of ``module``, where they are at hand.
    """
    cutter = _Cutter.of(module, find_sites(module) if sites is None else sites)
    claimed, diagnostics = cutter.claim(each, groups or {})
    if each is None:
        for block in BlockSearch(module, cutter.nodes, cutter.sites).run():
            claimed.add(block)
    return cutter.units(claimed.stretches), diagnostics


@dataclass(frozen=True, slots=True)
class _Cutter:
    module: fx.GraphModule
    nodes: list[fx.Node]
    sites: tuple[Site, ...]
    layers: set[int]
    """Positions of the nodes with weights that are worth tuning."""
    keys: Mapping[str, str]
    """Of the sites, by the name of their node."""

    @classmethod
    def of(cls, module: fx.GraphModule, sites: tuple[Site, ...]) -> "_Cutter":
        nodes = computing_nodes(module)
        keys = {site.node: site.key for site in sites}
        return cls(module, nodes, sites, positions_of_layers(nodes, sites), keys)

    def claim(
        self, each: Sequence[str] | None, groups: Mapping[str, Sequence[str]]
    ) -> tuple[Apart, list[Diagnostic]]:
        """The stretches that a recipe asks for, without those that cannot be."""
        calls = calls_by_path(self.nodes)
        diagnostics = [
            unknown_block(path, calls)
            for path in (*(each or ()), *(path for paths in groups.values() for path in paths))
            if path not in calls
        ]
        wanted = [call for path in each or () for call in calls.get(path, ())]
        for name, paths in groups.items():
            parts = [call for path in paths for call in calls.get(path, ())]
            if not parts:
                continue
            if self._has_gap(parts):
                diagnostics.append(scattered_group(name))
                continue
            start, stop = min(part.start for part in parts), max(part.stop for part in parts)
            wanted.append(Stretch(name, start, stop))
        claimed = Apart()
        for block in wanted:
            rival = claimed.add(block)
            if rival is not None:
                diagnostics.append(overlapping_blocks(rival.name, block.name))
        return claimed, diagnostics

    def units(self, blocks: list[Stretch]) -> tuple[Unit, ...]:
        taken: set[str] = {block.name for block in blocks}
        units: list[Unit] = []
        position = 0
        for block in blocks:
            units.extend(self._left_over(position, block.start, taken))
            units.append(self._unit(block, is_block=True))
            position = block.stop
        units.extend(self._left_over(position, len(self.nodes), taken))
        return tuple(units)

    def _has_gap(self, parts: list[Stretch]) -> bool:
        """Whether a layer that is not named lies between the named ones."""
        covered = {position for part in parts for position in range(part.start, part.stop)}
        between = range(min(covered), max(covered) + 1)
        return any(at in self.layers and at not in covered for at in between)

    def _left_over(self, start: int, stop: int, taken: set[str]) -> list[Unit]:
        """Cut before every layer but the first."""
        if start == stop:
            return []
        cuts = [at for at in range(start, stop) if at in self.layers][1:]
        edges = [start, *cuts, stop]
        return [
            self._unit(Stretch(self._name(first, last, taken), first, last), is_block=False)
            for first, last in pairwise(edges)
        ]

    def _name(self, start: int, stop: int, taken: set[str]) -> str:
        """The first layer, else the first node; never a name that is taken."""
        first = next((at for at in range(start, stop) if at in self.layers), start)
        node = self.nodes[first].name
        tries = chain((self.keys.get(node, node),), (f"{node}_{n}" for n in count()))
        name = next(name for name in tries if name not in taken)
        taken.add(name)
        return name

    def _unit(self, stretch: Stretch, *, is_block: bool) -> Unit:
        nodes = self.nodes[stretch.start : stretch.stop]
        inside = set(nodes)
        read = dict.fromkeys(item for node in nodes for item in node.all_input_nodes)
        return Unit(
            name=stretch.name,
            nodes=tuple(node.name for node in nodes),
            inputs=tuple(
                item.name for item in read if item not in inside and item.op != "get_attr"
            ),
            outputs=tuple(node.name for node in nodes if not inside.issuperset(node.users)),
            is_block=is_block,
        )


# ---- diagnostics ------------------------------------------------------------------------------


def unknown_block(path: str, calls: Mapping[str, object]) -> Diagnostic:
    """QR701: a block names a module that the captured graph never runs."""
    return Diagnostic(
        code=Code.BLOCKS,
        message=f"no node of the graph belongs to `{path}`",
        subject=path,
        help=did_you_mean(path, calls),
    )


def scattered_group(name: str) -> Diagnostic:
    """QR701: other layers run between the modules of a group."""
    return Diagnostic(
        code=Code.BLOCKS,
        message=f"the modules of group `{name}` do not run one after another",
        subject=name,
        help="name the modules in between as well, or make two groups",
    )


def overlapping_blocks(first: str, second: str) -> Diagnostic:
    """QR701: a node would be in two blocks."""
    return Diagnostic(
        code=Code.BLOCKS,
        message=f"blocks `{first}` and `{second}` overlap",
        subject=second,
        help=f"leave out `{first}` or `{second}`",
    )

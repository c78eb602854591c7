"""Parameters that one call of one module reads, and nothing else: a run may set them anew."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter

from torch import Tensor, fx, nn

from qcompile.compat.submodules import module_at


@dataclass(frozen=True, slots=True)
class OwnParameters:
    graph: fx.GraphModule
    names: Mapping[int, int]
    """How many names a parameter has, by its id: a tied one has two."""
    read: frozenset[int]
    """Ids of what is read beside the calls of modules."""

    @classmethod
    def of(cls, graph: fx.GraphModule) -> "OwnParameters":
        named = graph.named_parameters(remove_duplicate=False)
        names = Counter(id(parameter) for _, parameter in named)
        attributes = (node for node in graph.graph.nodes if node.op == "get_attr")
        read = frozenset(id(attrgetter(str(node.target))(graph)) for node in attributes)
        return cls(graph, names, read)

    def calls(self) -> Iterator[tuple[str, str, nn.Module]]:
        """Node, path and module of each module that is called once."""
        called = [node for node in self.graph.graph.nodes if node.op == "call_module"]
        times = Counter(str(node.target) for node in called)
        for node in called:
            path = str(node.target)
            if times[path] == 1:
                yield node.name, path, module_at(self.graph, path)

    def has(self, parameter: object) -> bool:
        return (
            isinstance(parameter, Tensor)
            and self.names.get(id(parameter)) == 1
            and id(parameter) not in self.read
        )

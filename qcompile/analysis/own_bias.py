"""Biases that may be set anew with the weight beside them: no other node reads either."""

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter

from torch import Tensor, fx

from qcompile.methods.tuning import Tuning
from qcompile.policy.core import SitePlan


def with_refits(
    graph: fx.GraphModule,
    planned: Sequence[SitePlan],
    general: Tuning,
    tunings: Mapping[str, Tuning],
) -> tuple[SitePlan, ...]:
    """The plans, with the biases named that a run will set.

    ``tunings`` are those of single sites, by key; the others have the ``general`` one.
    """
    biases = own_biases(graph)

    def refits(site: SitePlan) -> tuple[str, ...]:
        tuning = tunings.get(site.key, general)
        has_weight = any(tensor.slot == "weight" for tensor in site.tensors)
        if not has_weight or site.node not in biases or not tuning.refits_bias:
            return ()
        return (biases[site.node],)

    return tuple(site.model_copy(update={"refits": refits(site)}) for site in planned)


def own_biases(graph: fx.GraphModule) -> dict[str, str]:
    """By node name: the path of the bias of a module that is called once and shares nothing."""
    called = Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_module")
    names = Counter(map(id, _parameters(graph)))
    read = {id(_attribute(graph, node)) for node in graph.graph.nodes if node.op == "get_attr"}

    def is_own(parameter: object) -> bool:
        return (
            isinstance(parameter, Tensor)
            and names[id(parameter)] == 1
            and id(parameter) not in read
        )

    found: dict[str, str] = {}
    for node in graph.graph.nodes:
        path = str(node.target)
        if node.op == "call_module" and called[path] == 1:
            leaf = graph.get_submodule(path)
            if is_own(getattr(leaf, "bias", None)) and is_own(getattr(leaf, "weight", None)):
                found[node.name] = f"{path}.bias"
    return found


def _parameters(graph: fx.GraphModule) -> list[Tensor]:
    """As often as they have names: a tied one is in the list twice."""
    return [parameter for _, parameter in graph.named_parameters(remove_duplicate=False)]


def _attribute(graph: fx.GraphModule, node: fx.Node) -> object:
    return attrgetter(str(node.target))(graph)

"""Biases that may be set anew with the weight beside them: no other node reads either."""

from collections import Counter
from collections.abc import Callable, Sequence

from torch import Tensor, fx

from qcompile.methods.tuning import Tuning
from qcompile.policy.core import SitePlan


def with_refits(
    graph: fx.GraphModule, planned: Sequence[SitePlan], tuning_of: Callable[[SitePlan], Tuning]
) -> tuple[SitePlan, ...]:
    """The plans, with the biases named that a run will set."""
    biases = own_biases(graph)

    def refits(site: SitePlan) -> tuple[str, ...]:
        has_weight = any(tensor.slot == "weight" for tensor in site.tensors)
        if not has_weight or site.node not in biases or not tuning_of(site).refits_bias:
            return ()
        return (biases[site.node],)

    return tuple(site.model_copy(update={"refits": refits(site)}) for site in planned)


def own_biases(graph: fx.GraphModule) -> dict[str, str]:
    """By node name: the path of the bias of a module that is called once and shares nothing."""
    called = Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_module")
    storages = Counter(
        tensor.untyped_storage().data_ptr()
        for _, tensor in graph.named_parameters(remove_duplicate=False)
    )

    def is_own(tensor: object) -> bool:
        if not isinstance(tensor, Tensor):
            return False
        return storages[tensor.untyped_storage().data_ptr()] == 1

    found: dict[str, str] = {}
    for node in graph.graph.nodes:
        path = str(node.target)
        if node.op == "call_module" and called[path] == 1:
            leaf = graph.get_submodule(path)
            if is_own(getattr(leaf, "bias", None)) and is_own(getattr(leaf, "weight", None)):
                found[node.name] = f"{path}.bias"
    return found

"""Biases that may be set anew with the weight beside them: no other node reads either."""

from collections.abc import Mapping, Sequence

from torch import fx

from qcompile.analysis.own_parameters import OwnParameters
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
        if not site.has_weight or site.node not in biases or not tuning.refits_bias:
            return ()
        return (biases[site.node],)

    return tuple(site.model_copy(update={"refits": refits(site)}) for site in planned)


def own_biases(graph: fx.GraphModule) -> dict[str, str]:
    """By node name: the path of the bias of a module that is called once and shares nothing."""
    own = OwnParameters.of(graph)
    return {
        node: f"{path}.bias"
        for node, path, leaf in own.calls()
        if own.has(getattr(leaf, "bias", None)) and own.has(getattr(leaf, "weight", None))
    }

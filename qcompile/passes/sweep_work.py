"""What the sweep has found for one unit so far, and what a reconstruction replaced."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from qcompile.passes.block import Block, BlockSite, Choice, Rounded, hard_choice
from qcompile.passes.reconstruct import Account, Reconstruction
from qcompile.passes.sweep_site import SiteContext, SiteFigures
from qcompile.passes.sweep_values import Value
from qcompile.quant.activation_quantizer import ActivationQuantizer

Inputs = Mapping[str, tuple[Sequence[Value], Sequence[Value]]]
"""By node name: the values of all batches in the float and in the quantized stream."""


class UnitWork:
    """Sites, codes and quantizers of a unit, in the order of the walk."""

    def __init__(
        self,
        context: SiteContext,
        inputs: Inputs,
        norms: Mapping[str, Mapping[str, Tensor]],
    ) -> None:
        """``inputs`` are kept only where something is to be reconstructed from them.

        ``norms`` are float parameters that are learned beside, by node and path.
        """
        self.context = context
        self.inputs = inputs
        self.norms = norms
        self.beside = {path: value for own in norms.values() for path, value in own.items()}
        """Present values of the parameters of ``norms``."""
        self.sites: dict[str, BlockSite] = {}
        self.figures: list[SiteFigures] = []
        self.accounts: list[tuple[str, Account]] = []
        self.codes: dict[str, Rounded] = {}
        """By storage: only weights that this unit decides."""
        self.quantizers: dict[tuple[str, str], ActivationQuantizer] = {}

    def add(self, site: BlockSite) -> None:
        self.sites[site.node] = site
        for slot, quantizer in site.quantizers.items():
            self.quantizers[site.node, slot] = quantizer
        if site.solved is not None:
            self.codes[site.solved.storage] = site.solved.start

    def replace(self, name: str, result: Reconstruction) -> None:
        """Take over what a reconstruction kept; its account goes under ``name``."""
        self.codes.update(result.codes)
        self.quantizers.update(result.quantizers)
        self.beside.update(result.beside)
        self.accounts.append((name, result.account))

    def choice(self, block: Block) -> Choice:
        """The present codes and quantizers, for the sites of ``block``."""
        return hard_choice(block, self.codes, self.quantizers, self.beside)

    def norms_of(self, nodes: Sequence[str]) -> dict[str, Mapping[str, Tensor]]:
        return {node: self.norms[node] for node in nodes if node in self.norms}

    def tensors(self) -> dict[str, Tensor]:
        """Artifact tensors by name."""
        found: dict[str, Tensor] = {}
        for (node, slot), quantizer in self.quantizers.items():
            named = quantizer.tensors(f"{self.sites[node].key}:{slot}")
            # operands that share a range have one quantizer, and a copy each on disk
            found |= {name: tensor.clone() for name, tensor in named.items()}
        for storage, code in self.codes.items():
            found |= code.tensors(storage)
        return found | self.beside

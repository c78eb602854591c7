"""What became of each planned layer when a model was made ready for a target."""

from dataclasses import dataclass

from qcompile.targets.target import Kernel


@dataclass(frozen=True, slots=True)
class LoweredLayer:
    key: str
    """Of the site in the plan."""
    kernel: Kernel | None = None
    """``None``: it stays in float."""
    fused: tuple[str, ...] = ()
    """Operations that the kernel took over: ``add``, ``relu``, ``quantize``, ..."""
    because: str = ""
    """Why it stays in float."""
    form: str = ""
    """Which one of several that the kernel has, and why not the fastest."""


@dataclass(frozen=True, slots=True)
class LoweringReport:
    """``layers`` holds every planned site, in execution order.

    A layer in float computes what the simulation computes: its weight was taken off the codes
    once, when the model was loaded, and its activations are quantized as in the reference.
    """

    target: str
    layers: tuple[LoweredLayer, ...]
    checked: tuple[int, ...] = ()
    """Batch sizes on which the kernels were compared with simulation and float reference."""
    difference: float = 0.0
    """Of an output from the simulation's: root mean square, relative to that of the output."""
    layer_difference: float = 0.0
    """The largest one of a layer from the float reference, on the same inputs."""

    @property
    def in_float(self) -> tuple[LoweredLayer, ...]:
        return tuple(layer for layer in self.layers if layer.kernel is None)

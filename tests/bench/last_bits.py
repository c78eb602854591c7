"""A simulation whose operations are each wrong in the last bit, as sums of floats would be."""

import torch
from torch import Tensor, fx

from qcompile.compat.quantize_to_bytes import quantize_to_floats
from qcompile.quant.fake_quantize import dequantize_weight, fake_quantize, fake_quantize_dynamic

UNIT = 2.0**-23
EXACT: tuple[object, ...] = (
    *(dequantize_weight, quantize_to_floats),
    *(fake_quantize, fake_quantize_dynamic),
)


class LastBits(fx.Interpreter):
    """Multiplies each float result by ``1 + UNIT * u``, ``u`` uniform in [-1, 1].

    Grids stay as they are: of a number on the edge between two codes it is open which one it gets.
    """

    def __init__(self, module: fx.GraphModule, seed: int = 0) -> None:
        super().__init__(module)
        self.generator = torch.Generator().manual_seed(seed)

    def run_node(self, n: fx.Node) -> object:
        made = super().run_node(n)
        is_float = isinstance(made, Tensor) and made.dtype == torch.float32
        if not is_float or not n.op.startswith("call_") or n.target in EXACT:
            return made
        assert isinstance(made, Tensor)
        noise = torch.rand(made.shape, generator=self.generator).mul_(2).sub_(1)
        return made * (1 + UNIT * noise)

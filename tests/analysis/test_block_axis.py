"""Blocks of operands lie along the axis that is summed over, or the plan is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source
from qcompile.driver.bind import bind
from qcompile.driver.front import check_source
from tests.tiny_models import seeded

TEXT = """qrecipe 1
scheme s {{ act mxfp8 }}
policy main {{ use s for {kind} }}
"""


class Program(nn.Module):
    def __init__(self, program):
        super().__init__()
        self.program = program
        self.fc = nn.Linear(8, 8)
        self.matrix = nn.Parameter(torch.randn(4, 4))
        self.kernel = nn.Parameter(torch.randn(5, 4, 3, 3))

    def forward(self, x):
        return self.program(self, x)


def axes(program, kind, *shape):
    """Of each operand that the plan puts on blocks, in order."""
    checked = check_source(Source("r", TEXT.format(kind=kind)))
    assert checked.recipe is not None, checked.diagnostics
    bound = bind(checked.recipe, seeded(Program(program)).eval(), (torch.randn(2, *shape),))
    return [tensor.block_axis for site in bound.planned for tensor in site.tensors]


@pytest.mark.parametrize(
    ("program", "kind", "shape", "expected"),
    [
        (lambda m, x: m.fc(x), "linear", (4, 8), [-1]),
        (lambda m, x: m.matrix @ m.fc(x), "matmul", (4, 8), [-2]),
        (lambda m, x: m.fc(x) @ x.mT, "matmul", (4, 8), [-1, -2]),
        (lambda m, x: torch.bmm(m.fc(x), x.mT), "matmul", (4, 8), [-1, -2]),
        (lambda m, x: torch.baddbmm(x[..., :4], m.fc(x), x.mT), "matmul", (4, 8), None),
        (lambda m, x: m.fc(x) @ x.mean((0, 1)), "matmul", (4, 8), [-1, -1]),
        (lambda m, x: torch.einsum("bqd,bkd->bqk", m.fc(x), x), "matmul", (4, 8), None),
        (lambda m, x: (h := m.fc(x)[:, :, :4]) @ h, "matmul", (4, 8), None),
        (
            lambda m, x: F.scaled_dot_product_attention(m.fc(x), x, x + 1),
            "attention",
            (4, 8),
            [-1, -1, -2],
        ),
        (lambda m, x: F.scaled_dot_product_attention(*[m.fc(x)] * 3), "attention", (4, 8), None),
        (lambda m, x: F.conv2d(x, m.kernel), "conv", (4, 6, 6), [-3]),
        (lambda m, x: F.conv2d(x, m.kernel / m.kernel.std()), "conv", (4, 6, 6), [-3, -3]),
        (lambda m, x: F.conv_transpose1d(m.fc(x), m.kernel[:4, :, 0]), "conv", (4, 8), None),
        (lambda m, x: m.fc(x) + x, "add", (4, 8), None),
        (lambda m, x: m.fc(x) * x.abs().mean(), "mul", (4, 8), None),
    ],
)
def test_the_axis_of_blocks(program, kind, shape, expected):
    if expected is not None:
        assert axes(program, kind, *shape) == expected
        return
    with pytest.raises(CompileError) as refused:
        axes(program, kind, *shape)
    (problem,) = [one for one in refused.value.diagnostics if one.is_error]
    assert problem.code.number == "QR290"
    assert "does not sum over one axis of it" in problem.message
    assert "`per_token`" in problem.help

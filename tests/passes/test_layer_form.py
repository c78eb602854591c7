"""What counts as a product of rows and a weight, and what is left to nearest rounding."""

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from qcompile.passes.layer_form import layer_form
from qcompile.passes.sweep_node import occurrences
from qcompile.quant.geometry import Dense, rows, weight_rows


class Body(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form
        self.w = nn.Parameter(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))
        self.b = nn.Parameter(torch.arange(6.0))
        self.turn = nn.ConvTranspose2d(2, 2, 2)
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        return FORMS[self.form](self, x)


FORMS = {
    "linear": lambda body, x: F.linear(x, body.w, body.b),
    "linear, bias by name": lambda body, x: F.linear(x, body.w, bias=body.b),
    "linear without bias": lambda body, x: F.linear(x, body.w),
    "matmul": lambda body, x: torch.matmul(x, body.w),
    "operator": lambda body, x: x @ body.w,
    "addmm": lambda body, x: torch.addmm(body.b, x, body.w),
    "computed bias": lambda body, x: F.linear(x, body.w, body.b * 2),
    "addmm of a value": lambda body, x: torch.addmm(x, x, body.w),
    "addmm with factors": lambda body, x: torch.addmm(body.b, x, body.w, beta=2, alpha=0.5),
    "weight first": lambda body, x: torch.matmul(body.w, x),
    "computed weight": lambda body, x: F.linear(x, body.w * 2),
    "layer of a parameter": lambda body, x: body.layer(body.w),
    "transposed": lambda body, x: F.conv_transpose1d(x[None], body.w[..., None]),
}
PRODUCTS = (
    *("linear", "linear, bias by name", "linear without bias"),
    *("matmul", "operator", "addmm"),
)


def last(form):
    module = fx.symbolic_trace(Body(form))
    return module, list(module.graph.nodes)[-2]


@pytest.mark.parametrize("form", PRODUCTS)
def test_the_form_is_the_operation(form):
    module, node = last(form)
    found = layer_form(module, node)
    assert isinstance(found.geometry, Dense)
    assert occurrences(node)[found.input].name == "x"
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    product = (rows(x, found.geometry) @ weight_rows(module.w, found.geometry).transpose(1, 2))[0]
    bias = 0.0 if found.bias is None else found.bias
    assert torch.allclose(product + bias, module(x), atol=1e-5)


@pytest.mark.parametrize("form", [name for name in FORMS if name not in PRODUCTS])
def test_what_does_more_than_multiply_has_no_form(form):
    assert layer_form(*last(form)) is None


@pytest.mark.parametrize(
    ("leaf", "counts"),
    [
        (nn.Linear(4, 3), True),
        (nn.Conv2d(4, 6, 3, groups=2), True),
        (nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular"), False),
        (nn.ConvTranspose2d(4, 6, 3), False),
        (nn.Embedding(4, 3), False),
    ],
)
def test_modules_count_where_zero_padding_makes_them_products(leaf, counts):
    module = fx.symbolic_trace(nn.Sequential(leaf))
    [node] = [node for node in module.graph.nodes if node.op == "call_module"]
    assert (layer_form(module, node) is not None) == counts

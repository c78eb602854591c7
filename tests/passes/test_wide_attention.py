import pytest
import torch
from torch import fx
from torch.nn import functional as F

from qcompile.passes import wide_attention
from qcompile.passes.sweep_node import operation


def attention_node(*, masked=False):
    graph = fx.Graph()
    names = ("query", "key", "value", "mask")[: 4 if masked else 3]
    inputs = [graph.placeholder(name) for name in names]
    kwargs = {"attn_mask": inputs.pop()} if masked else {}
    node = graph.call_function(F.scaled_dot_product_attention, tuple(inputs), kwargs)
    graph.output(node)
    return fx.GraphModule(torch.nn.Module(), graph), node


def narrow_values(count):
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, 5, 8)
    return [
        torch.randn(shape, generator=generator).bfloat16().requires_grad_() for _ in range(count)
    ]


def attend(values, *, narrow, masked=False):
    module, node = attention_node(masked=masked)
    run = operation(module, node, torch.device("cpu"), {})
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
        return run(lambda place, _: values[place])


@pytest.mark.parametrize("masked", [False, True])
def test_without_tiles_attention_is_computed_in_float32(monkeypatch, masked):
    monkeypatch.setattr(wide_attention, "attends_bf16", lambda: False)
    values = narrow_values(3) + ([torch.zeros(5, 5, dtype=torch.bfloat16)] if masked else [])
    made = attend(values, narrow=True, masked=masked)
    wide = [value.detach().float().requires_grad_() for value in values]
    mask = {"attn_mask": wide[3].detach()} if masked else {}
    wanted = F.scaled_dot_product_attention(*wide[:3], **mask)
    assert torch.equal(made, wanted)
    made.sum().backward()
    wanted.sum().backward()
    for value, other in zip(values[:3], wide[:3], strict=True):
        assert value.grad.dtype == torch.bfloat16
        assert torch.equal(value.grad, other.grad.bfloat16())


def test_with_tiles_it_stays_in_bfloat16(monkeypatch):
    monkeypatch.setattr(wide_attention, "attends_bf16", lambda: True)
    assert attend(narrow_values(3), narrow=True).dtype == torch.bfloat16


def test_without_autocast_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(wide_attention, "attends_bf16", lambda: False)
    assert attend(narrow_values(3), narrow=False).dtype == torch.bfloat16

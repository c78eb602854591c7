"""What published models are made of, one mechanism a test; the graph is for all sizes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from qcompile.capture.kinds import kind_of
from qcompile.capture.sites import find_sites
from qcompile.capture.trace import trace
from qcompile.policy.site import Kind
from tests.capture.traced_models import tensors
from tests.tiny_models import seeded

WIDTH = 8


def sequence(n, t, seed=0):
    return torch.randn(n, t, WIDTH, generator=torch.Generator().manual_seed(seed))


def assert_general(model, inputs, options=None, axes=(0, 1)):
    """``inputs(rows, length)`` by name; the graph agrees with the model at other sizes."""
    model, options = seeded(model), options or {}
    example = inputs(2, 5)
    dynamic = {name: axes[: tensor.dim()] for name, tensor in example.items()}
    found = trace(model, (), {**example, **options}, dynamic=dynamic)
    assert (found.method, found.specialisations) == ("fake", ())
    for n, t in ((3, 7), (1, 5), (2, 1)):
        new = inputs(n, t if 1 in axes else 5)
        with torch.no_grad():
            ours, theirs = tensors(found.module(**new)), tensors(model(**new, **options))
        assert len(ours) == len(theirs) > 0
        for made, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-6)
    return found.module


class Windows(nn.Module):
    """Shifted windows, as in Swin, along the length; the last window is filled up."""

    def __init__(self, size=4):
        super().__init__()
        self.mix, self.size = nn.Linear(size, size), size

    def forward(self, x):
        n, t, c = x.shape
        x = functional.pad(x.roll(-1, 1), (0, 0, 0, -t % self.size))
        windows = x.reshape(n, -1, self.size, c).flatten(0, 1)
        mixed = self.mix(windows.mT).mT.reshape(n, -1, c)
        return mixed[:, :t].roll(1, 1)


def test_windows_over_a_free_length():
    assert_general(Windows(), lambda n, t: {"x": sequence(n, t)})


class Rotary(nn.Module):
    """Positions from a table of angles, which the model fills when it is first called."""

    def __init__(self):
        super().__init__()
        self.table = None
        self.project = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        if self.table is None:
            steps = torch.arange(64.0)[:, None] * torch.logspace(0, -2, WIDTH // 2)
            self.table = steps.cos(), steps.sin()
        cos, sin = (part[: x.shape[1]] for part in self.table)
        left, right = self.project(x).chunk(2, -1)
        return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


def test_a_table_of_positions_that_is_made_on_the_way_is_not_left_in_the_model():
    model = Rotary()
    assert_general(model, lambda n, t: {"x": sequence(n, t)})
    fresh = seeded(Rotary())
    trace(fresh, (sequence(2, 5),), {})
    assert fresh.table is None


class Masked(nn.Module):
    """Causal attention with padding; the mask is built from sizes, dtype and an optional input."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x, mask=None):
        n, t, _ = x.shape
        q, k, v = self.qkv(x).split(WIDTH, -1)
        lowest = torch.finfo(x.dtype).min
        bias = torch.full((t, t), lowest, dtype=x.dtype, device=x.device).triu(1)
        bias = bias[None].expand(n, t, t)
        if mask is not None:
            bias = bias.masked_fill(mask[:, None, :] == 0, lowest)
        return ((q @ k.mT) * WIDTH**-0.5 + bias).softmax(-1) @ v


def padded(n, t):
    mask = torch.ones(n, t, dtype=torch.long)
    mask[0, t // 2 + 1 :] = 0
    return {"x": sequence(n, t), "mask": mask}


def test_attention_masks_with_and_without_padding():
    with_mask = assert_general(Masked(), padded)
    without = assert_general(Masked(), lambda n, t: {"x": sequence(n, t)}, {"mask": None})
    inputs = [len(m.graph.find_nodes(op="placeholder")) for m in (with_mask, without)]
    assert inputs == [2, 1]


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer = kind(WIDTH, 4, batch_first=True)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_with_tuples_as_outputs(kind):
    assert_general(Recurrent(kind), lambda n, t: {"x": sequence(n, t)}, axes=(0,))


COMPOSITES = (
    nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True),
    nn.TransformerDecoderLayer(WIDTH, 2, 16, batch_first=True),
    nn.MultiheadAttention(WIDTH, 2, batch_first=True),
)


@pytest.mark.parametrize("layer", COMPOSITES, ids=lambda layer: type(layer).__name__)
def test_composite_layers_of_torch_are_entered(layer):
    model = seeded(layer)
    names = {nn.MultiheadAttention: ("query", "key", "value")}.get(type(layer), ("x", "memory"))
    given = 1 if isinstance(layer, nn.TransformerEncoderLayer) else len(names)
    module = trace(model, tuple(sequence(2, 5, n) for n in range(given)), {}).module
    new = tuple(sequence(3, 5, n) for n in range(given))
    for ours, theirs in zip(tensors(module(*new)), tensors(model(*new)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    kinds = {site.kind for site in find_sites(module)}
    assert Kind.LINEAR in kinds
    assert kinds & {Kind.ATTENTION, Kind.MATMUL}


class Routed(nn.Module):
    """Two of four experts for each token: rows sorted by expert, one grouped product."""

    def __init__(self, experts=4, chosen=2):
        super().__init__()
        self.router = nn.Linear(WIDTH, experts, bias=False)
        self.weight = nn.Parameter(torch.empty(experts, WIDTH, WIDTH))
        self.experts, self.chosen = experts, chosen

    def forward(self, x):
        n, t, width = x.shape
        flat = x.reshape(-1, width)
        scores, expert = self.router(flat).softmax(-1).topk(self.chosen, -1)
        expert, order = expert.reshape(-1).sort()
        ends = torch.histc(expert.float(), self.experts, 0, self.experts - 1).cumsum(0)
        rows = flat[order // self.chosen]
        made = functional.grouped_mm(rows, self.weight.mT, offs=ends.to(torch.int32))
        made = made * scores.reshape(-1)[order, None]
        back = torch.empty_like(order)
        back[order] = torch.arange(order.shape[0])
        return made[back].reshape(n, t, self.chosen, width).sum(2)


def test_routed_experts_with_a_grouped_product():
    module = assert_general(Routed(), lambda n, t: {"x": sequence(n, t)})
    (product,) = [n for n in module.graph.nodes if n.target is functional.grouped_mm]
    assert kind_of(product, module) is Kind.MATMUL


class Looped(Routed):
    """The same, one expert after the other, and only those that some token has chosen."""

    def forward(self, x):
        flat = x.reshape(-1, WIDTH)
        scores, expert = self.router(flat).softmax(-1).topk(self.chosen, -1)
        out = torch.zeros_like(flat)
        for number in expert.unique().tolist():
            share = (scores * (expert == number)).sum(-1, keepdim=True)
            out = out + share * (flat @ self.weight[number].mT)
        return out.reshape(x.shape)


def test_routed_experts_in_a_loop_over_data_are_captured_for_the_example_and_said():
    model = seeded(Looped())
    found = trace(model, (sequence(2, 5),), {})
    assert found.method == "real"
    assert [item.what for item in found.specialisations] == [
        "every shape",
        "the value of a tensor, read by `tolist`",
    ]
    torch.testing.assert_close(found.module(sequence(2, 5)), model(sequence(2, 5)))


class Everything(nn.Module):
    """Tuples, dicts, ``None`` and keywords, in and out, with writes in place."""

    def forward(self, pair, extra=None, *, shift, scale=2.0):
        left, right = pair["left"], pair["right"][0]
        y = left.clone()
        y[:, 0] += right[:, 0]
        y.mul_(scale).add_(shift)
        return {"y": y, "parts": (left - right, [y.amax(1), None]), "none": extra}


def test_containers_in_and_out():
    def pair(n):
        return {"left": torch.ones(n, 4), "right": (torch.ones(n, 4) * 2, None)}

    found = trace(Everything().eval(), (pair(2), None), {"shift": torch.ones(4)})
    model = Everything()(pair(5), None, shift=torch.ones(4))
    made = found.module(pair(5), shift=torch.ones(4))
    assert set(made) == {"y", "parts"}
    assert torch.equal(made["y"], model["y"])
    assert torch.equal(made["parts"][0], model["parts"][0])
    assert torch.equal(made["parts"][1][0], model["parts"][1][0])
    assert made["parts"][1][1] is None

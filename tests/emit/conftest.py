import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qcompile.capture.operands import site_kind
from qcompile.capture.trace import trace
from qcompile.policy.scheme import IntFormat, PerChannel, PerGroup, PerTensor, QuantSlot
from qcompile.policy.site import Kind
from tests.emit.planning import plan_of, site_of, tensors_of_plan

KINDS = (Kind.LINEAR, Kind.CONV, Kind.MATMUL, Kind.EMBEDDING)
W4 = QuantSlot(format=IntFormat(bits=4, signed=True), symmetric=True, granularity=PerChannel())
W3 = QuantSlot(
    format=IntFormat(bits=3, signed=False), symmetric=False, granularity=PerGroup(size=3)
)
A8 = QuantSlot(format=IntFormat(bits=8, signed=False), symmetric=False, granularity=PerTensor())
DYNAMIC = replace(A8, dynamic=True)


class Convolutions(nn.Module):
    """Every padding there is, groups, a transposed one, and a flatten over a free batch."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.reflect = nn.Conv2d(8, 8, (3, 5), padding=(1, 2), padding_mode="reflect", groups=4)
        self.same = nn.Conv2d(8, 8, (2, 3), padding="same", padding_mode="circular", dilation=2)
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(6 * 64, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.reflect(x)
        x = self.pool(F.gelu(self.up(self.same(x))))
        return self.head(x.flatten(1))


class Attention(nn.Module):
    """Functions, tied weights, a buffer outside the state dict, slices, and a dict of outputs."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 12, padding_idx=0)
        self.qkv = nn.Linear(12, 36)
        self.norm = nn.LayerNorm(12)
        self.gain = nn.Parameter(torch.ones(12))
        self.out = nn.Linear(12, 20, bias=False)
        self.out.weight = self.embed.weight
        self.register_buffer("ramp", torch.linspace(0, 1, 64), persistent=False)

    def forward(self, ids, mask):
        x = self.embed(ids) + self.ramp[: ids.shape[1], None]
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        q, k, v = (t.view(batch, length, 2, width // 2).transpose(1, 2) for t in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) / 8**0.5
        scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
        x = x + (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)
        x = F.rms_norm(x, (width,), self.gain)
        return {"logits": self.out(x), "last": (x[:, -1], x.mean((0, 1)).to(torch.float64))}


def captured(net, *args, **kwargs):
    found = trace(net.eval(), args, kwargs)
    assert found.method == "fake", found.diagnostics
    return found.module


@pytest.fixture(scope="session")
def graphs():
    """Capture each net once; tests get copies."""
    torch.manual_seed(0)
    ids, mask = torch.randint(0, 20, (2, 6)), torch.ones(2, 6, dtype=torch.int64)
    return {
        "conv": captured(Convolutions(), torch.randn(2, 3, 8, 8)),
        "attention": captured(Attention(), ids, mask),
    }


@pytest.fixture
def conv_graph(graphs):
    return copy.deepcopy(graphs["conv"])


@pytest.fixture
def attention_graph(graphs):
    return copy.deepcopy(graphs["attention"])


@pytest.fixture
def conv_batch():
    return (torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)),)


@pytest.fixture
def attention_batch():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 20, (3, 9), generator=generator)
    mask = torch.ones(3, 9, dtype=torch.int64)
    mask[1, 5:] = 0
    return ids, mask


@pytest.fixture
def planned():
    """Plan weights and activations of all layers and products; return the plan and its tensors."""

    def make(module, weight_spec=W4, act_spec=A8, only=None):
        sites = []
        for node in module.graph.nodes:
            if only is not None and node.name not in only:
                continue
            if site_kind(node, module) in KINDS:
                sites.append(site_of(module, node, weight_spec, act_spec))
        plan = plan_of(module, sites)
        return plan, tensors_of_plan(module, plan.core)

    return make


@pytest.fixture
def specs():
    return {"w4": W4, "w3": W3, "a8": A8, "dynamic": DYNAMIC}

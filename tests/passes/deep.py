"""A network of two residual blocks and a head, with what a sweep needs to quantize it."""

from dataclasses import replace

import torch
from torch import fx, nn

from qcompile.capture.unit import Unit
from qcompile.methods.presets import preset
from qcompile.passes.sweep import sweep
from qcompile.policy.core import SitePlan, TensorPlan
from qcompile.policy.rule_ref import RuleRef
from qcompile.policy.scheme import IntFormat, PerChannel, PerTensor, QuantSlot

RULE = RuleRef(file="x", line=1, column=1, text="use")
W2 = QuantSlot(format=IntFormat(bits=2, signed=True), symmetric=True, granularity=PerChannel())
A4 = QuantSlot(format=IntFormat(bits=4, signed=False), symmetric=False, granularity=PerTensor())
CPU = torch.device("cpu")
LAYERS = ("first", "second", "third", "fourth")
INPUTS = {
    "first": "x",
    "second": "act",
    "third": "add",
    "fourth": "act_1",
    "head": "add_1",
}
UNITS = (
    Unit("one", ("first", "act", "second", "add"), ("x",), ("add",), True),
    Unit("two", ("third", "act_1", "fourth", "add_1"), ("add",), ("add_1",), True),
    Unit("head", ("head",), ("add_1",), ("head",), False),
)


class Deep(nn.Module):
    """``[n, 12] -> [n, 5]``; the second activation works in place."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 12)
        self.third, self.fourth = nn.Linear(12, 16), nn.Linear(16, 12)
        self.act, self.act_1 = nn.ReLU(), nn.ReLU(inplace=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        x1 = x + self.second(self.act(self.first(x)))
        x2 = x1 + self.fourth(self.act_1(self.third(x1)))
        return self.head(x2)


def deep(seed=0, batches=16):
    """The traced model and its batches."""
    generator = torch.Generator().manual_seed(seed)
    model = Deep().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    mix = torch.randn(12, 12, generator=generator) / 3
    data = [{"x": torch.randn(16, 12, generator=generator) @ mix} for _ in range(batches)]
    return fx.symbolic_trace(model), data


def site(module, name, operand=None):
    """``operand`` is what it reads, if it is no layer of ``Deep``."""
    weight = TensorPlan(
        slot="weight",
        spec=W2,
        parameter=f"{name}.weight",
        storage=f"{name}.weight",
        shape=tuple(module.get_submodule(name).weight.shape),
        bytes_before=0,
        bytes_after=0,
        decided_by=RULE,
    )
    act = TensorPlan(
        slot="act",
        spec=A4,
        operand=operand or INPUTS[name],
        bytes_before=0,
        bytes_after=0,
        decided_by=RULE,
    )
    return SitePlan(
        key=name,
        path=name,
        call=0,
        node=name,
        kind="linear",
        unit=next((unit.name for unit in UNITS if name in unit.nodes), "all"),
        scheme="w2a4",
        decided_by=RULE,
        tensors=(weight, act),
    )


def outcomes(tuning, *, seed=0, only=LAYERS, bits=2, act_bits=4, observer=None, **options):
    """Of every unit; ``only`` these layers are quantized. ``observer`` is of their inputs."""
    module, data = deep(seed, **options)
    of_act = {"format": IntFormat(bits=act_bits, signed=False)}
    of_act |= {} if observer is None else {"observer": observer}
    of_weight = {"format": IntFormat(bits=bits, signed=True)}
    sites = {name: changed(site(module, name), of_weight, of_act) for name in only}
    return list(sweep(module, UNITS, sites, data, tuning=tuning, seed=1, device=CPU))


def changed(one, *changes):
    """The plan of a site with other fields in the specification of each of its tensors."""
    tensors = (
        tensor.model_copy(update={"spec": replace(tensor.spec, **change)})
        for tensor, change in zip(one.tensors, changes, strict=True)
    )
    return one.model_copy(update={"tensors": tuple(tensors)})


def quick(name, **update):
    found = preset(name)
    assert found is not None
    return replace(found, **{"steps": 40, "precision": "fp32", **update})

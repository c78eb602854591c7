"""Layers with random weights on a grid, made ready for a target, beside their reference."""

import pytest
import torch

from qcompile.capture.trace import trace
from qcompile.emit.lower.difference import relative
from qcompile.emit.lower.exact import simulation
from qcompile.emit.lower.limits import HERE
from qcompile.emit.lower.lower import lower
from qcompile.emit.lower.lowering import Lowering
from qcompile.emit.materialize import materialize
from qcompile.policy.scheme import IntFormat, PerChannel, PerTensor, QuantSlot
from qcompile.targets.catalogue import find_target

X86 = find_target("x86-int8")


def slot(bits, signed, symmetric, granularity, dynamic=False):
    number = IntFormat(bits=bits, signed=signed)
    return QuantSlot(format=number, symmetric=symmetric, granularity=granularity, dynamic=dynamic)


W8 = slot(8, True, True, PerChannel())
A8 = slot(8, False, False, PerTensor())


def lowered(planned, net, *example, weight=W8, act=A8, only=None, target=X86):
    """The reference of ``net`` with random weights on a grid, and what it becomes on a target."""
    module = trace(net.eval(), example, {}).module
    plan, tensors = planned(module, weight, act, only)
    reference = materialize(module, plan.core, tensors)
    made = lower(reference, plan.core, target)
    assert isinstance(made, Lowering), made
    return reference, made


def close(reference, made, *inputs, bits=True):
    """Kernels and float reference differ by the order of float sums alone: no code may flip.

    With ``bits`` they differ in none of them from the simulation.
    """
    before = [value.clone() for value in inputs]
    found = made.module(*inputs)
    torch.testing.assert_close(found, reference(*inputs), rtol=2e-5, atol=2e-5)
    assert all(torch.equal(one, other) for one, other in zip(inputs, before, strict=True))
    if bits:
        assert same_bits(reference, made, *inputs)


def same_bits(reference, made, *inputs):
    """Whether kernels give what the simulation gives, also where codes flip against the floats."""
    found = made.module(*inputs)
    assert relative(found, reference(*inputs)) < 5e-3
    return torch.equal(found, simulation(reference)(*inputs))


def skip_what_is_miscounted_here(made):
    """Behind the comparison with the simulation: what is in no kernel here can be in none."""
    if any(HERE in layer.because for layer in made.report.in_float):
        pytest.skip(made.report.in_float[0].because)


def calls(made):
    return [node.target for node in made.module.graph.nodes if node.op == "call_function"]

import operator

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from qcompile.capture.kinds import FUNCTION_KINDS, MODULE_KINDS, STRUCTURAL
from qcompile.capture.leaves import LEAVES
from qcompile.capture.node_meta import NodeFacts, set_facts
from qcompile.capture.roles import MODULE_ROLES, ROLES, Role, role_of

KNOWN = NodeFacts(shape=("s0", 8), example=(2, 8), dtype="float32")


def role(target, *args, **kwargs):
    """Of a call whose ``x`` and ``y`` are two inputs of the model."""
    graph = fx.Graph()
    inputs = {name: graph.placeholder(name) for name in "xy"}
    for node in inputs.values():
        set_facts(node, KNOWN)
    given = tuple(inputs.get(arg, arg) if isinstance(arg, str) else arg for arg in args)
    node = graph.call_function(target, given, kwargs)
    return role_of(node, nn.Module())


def test_every_operation_with_a_kind_has_a_role():
    assert set(FUNCTION_KINDS) | set(STRUCTURAL) <= set(ROLES)
    assert set(LEAVES) | set(MODULE_KINDS) <= set(MODULE_ROLES)


def test_whatever_only_moves_values_passes_the_grid_on():
    assert {ROLES[name] for name in STRUCTURAL} == {Role.PASS}


def test_all_names_of_a_concatenation_are_one():
    assert {ROLES[name] for name in ("cat", "concat", "concatenate")} == {Role.MERGE}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (role(torch.add, "x", "y"), Role.ADD),
        (role(torch.add, "x", "y", alpha=2), Role.COMPUTE),
        (role(operator.iadd, "x", "y"), Role.ADD),
        (role(torch.max, "x", "y"), Role.MERGE),
        (role(torch.max, "x", 1), Role.PASS),
        (role(F.pad, "x", (1, 1)), Role.PASS),
        (role(F.pad, "x", (1, 1), "constant", 1.0), Role.COMPUTE),
        (role(F.pad, "x", (1, 1), mode="reflect"), Role.PASS),
        (role(F.interpolate, "x", scale_factor=2), Role.PASS),
        (role(F.interpolate, "x", scale_factor=2, mode="bilinear"), Role.COMPUTE),
        (role(torch.special.xlog1py, "x", "y"), None),
    ],
)
def test_arguments_decide_where_the_name_does_not(found, expected):
    assert found is expected


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        (nn.MaxPool2d(2), Role.PASS),
        (nn.AvgPool2d(2), Role.COMPUTE),
        (nn.Upsample(scale_factor=2), Role.PASS),
        (nn.Upsample(scale_factor=2, mode="bilinear"), Role.COMPUTE),
        (nn.ConstantPad1d(1, 2.0), Role.COMPUTE),
        (nn.Dropout(0.5), Role.PASS),
        (nn.Bilinear(2, 2, 2), None),
    ],
    ids=str,
)
def test_role_of_a_module(leaf, expected):
    root = nn.Module()
    root.leaf = leaf
    graph = fx.Graph()
    node = graph.call_module("leaf", (graph.placeholder("x"),))
    assert role_of(node, root) is expected

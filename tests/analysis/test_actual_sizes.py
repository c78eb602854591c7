import pytest
from torch import fx

from qcompile.analysis.actual_sizes import ActualSizes
from qcompile.analysis.speeds import PassSpeed, ProductSpeed, Rate, SolverSpeed, Speeds
from qcompile.capture.node_meta import NodeFacts, set_facts


def node(shape, example, dtype="float32"):
    made = fx.Graph().placeholder("x")
    set_facts(made, NodeFacts(shape=shape, example=example, dtype=dtype))
    return made


@pytest.mark.parametrize(
    ("size", "actual"),
    [("s0", 8), ("s0 + 1", 9), ("2*s1 - s0", 32), ("(s0*s1)//3", 53), ("s1 % 3", 2)],
)
def test_free_sizes_are_worked_out(size, actual):
    sizes = ActualSizes({"s0": 8, "s1": 20})
    assert sizes.shape(node((size, 16), (2, 16))) == (actual, 16)
    assert sizes.nbytes(node((size, 16), (2, 16), "float16")) == 2 * 16 * actual


@pytest.mark.parametrize("size", ["u7", "Max(1, s0)", "s0//0", "s0 +"])
def test_what_cannot_be_worked_out_keeps_the_size_of_the_example(size):
    assert ActualSizes({"s0": 8}).shape(node((size,), (3,))) == (3,)


def test_symbols_are_read_from_a_batch():
    graph = fx.Graph()
    x = graph.placeholder("x")
    set_facts(x, NodeFacts(shape=("s0", "s1", 4), example=(2, 16, 4), dtype="float32"))
    sizes = ActualSizes.of(graph, {"x": (32, 128, 4)})
    assert sizes.shape(x) == (32, 128, 4)


def test_speeds_between_measured_widths_follow_a_power_law():
    speeds = Speeds(
        machine={},
        products=tuple(
            ProductSpeed(kind="conv", width=w, forward=1 / w, training=1.0, training_bf16=1.0)
            for w in (16, 256)
        ),
        passes=tuple(
            PassSpeed(kind="plain", elements=n, forward=1.0, training=t)
            for n, t in ((16, 2.0), (256, 8.0))
        ),
        solvers=(SolverSpeed(kind="optq", column=2.0, product=3.0, cube=5.0),),
        call=0.0,
        search=Rate(per_call=7.0, per_item=0.5),
        levels=Rate(per_call=4e-4, per_item=2e-8),
        step=Rate(per_call=0.0, per_item=0.0),
        new=0.0,
        commit=0.0,
    )
    assert speeds.product("conv", 64) == pytest.approx(1 / 64)
    assert speeds.product("conv", 8) == 1 / 16
    assert speeds.product("conv", 1024) == 1 / 256
    assert speeds.over("plain", 64, training=True) == pytest.approx(4.0)
    assert speeds.over("plain", 1, training=True) == 2.0
    assert speeds.solver("optq").seconds(2, 10) == 2 * 2 + 4 * 10 * 3 + 8 * 5
    assert speeds.search.seconds(4, calls=3) == 3 * 7 + 4 * 0.5

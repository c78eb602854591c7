"""What a model decides by its example is compiled in, and said: where, and in which module."""

import pytest
import torch
from torch import nn

from qcompile.capture.trace import trace
from qcompile.diagnostics.codes import Code, Severity
from qcompile.diagnostics.failure import CompileError
from tests.tiny_models import seeded


class Holder(nn.Module):
    """A model whose one block does ``step(layer, x)``."""

    def __init__(self, step, **attributes):
        super().__init__()
        self.block = Block(step)
        for name, value in attributes.items():
            setattr(self.block, name, value)

    def forward(self, x):
        return self.block(x)


class Block(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.step = step

    def forward(self, x):
        return self.step(self, x)


def rows(n, seed=0):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))


def line_of(step):
    """``file:line`` of the first statement of ``step``."""
    return f"{step.__code__.co_filename}:{step.__code__.co_firstlineno + 1}"


# ---- sizes ------------------------------------------------------------------------------------


def only_large(block, x):
    return block.layer(x) if x.shape[0] > 2 else x


def rounds(block, x):
    return sum(block.layer(x) * k for k in range(x.shape[0]))


def length_of(block, x):
    return block.layer(x) * len(x)


def whole_groups(block, x):
    assert x.shape[0] % 3 == 0
    return block.layer(x)


@pytest.mark.parametrize(
    ("step", "condition"),
    [
        (only_large, "x.shape[0] > 2"),
        (rounds, "x.shape[0] == 3"),
        (length_of, "x.shape[0] == 3"),
        (whole_groups, "(x.shape[0] % 3) == 0"),
    ],
)
def test_a_decision_on_a_size_is_said_with_module_and_line(step, condition):
    found = trace(seeded(Holder(step)), (rows(3),), {})
    assert found.method == "fake"
    (item,) = found.specialisations
    assert (item.what, item.path, item.where) == (f"`{condition}`", "block", line_of(step))
    (diagnostic,) = found.diagnostics
    assert (diagnostic.code, diagnostic.severity) == (Code.SPECIALISED, Severity.WARNING)
    assert diagnostic.subject == line_of(step)
    assert diagnostic.notes[1:] == ("while `block` was running",)


def test_the_line_itself_is_shown():
    found = trace(seeded(Holder(only_large)), (rows(3),), {})
    assert found.diagnostics[0].notes[0] == "`return block.layer(x) if x.shape[0] > 2 else x`"


def not_one(block, x):
    return block.layer(x) if x.shape[0] == 1 else x


def test_what_only_an_axis_of_one_would_change_is_information():
    found = trace(seeded(Holder(not_one)), (rows(3),), {})
    assert [(item.what, item.above_one) for item in found.specialisations] == [
        ("`x.shape[0] != 1`", True)
    ]
    assert [item.severity for item in found.diagnostics] == [Severity.INFO]


def harmless(block, x):
    n, width = x.shape
    if n < 1 or width != 4:
        raise ValueError("an empty batch")
    return block.layer(x.reshape(2 * n, width // 2).reshape(n, -1)).expand(n, width)


def test_what_holds_for_all_sizes_is_not_said():
    model = seeded(Holder(harmless))
    found = trace(model, (rows(3),), {})
    assert found.diagnostics == ()
    assert torch.equal(found.module(rows(7)), model(rows(7)))


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block(only_large) for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def test_one_line_that_runs_in_many_layers_is_said_once():
    found = trace(seeded(Twins()), (rows(3),), {})
    assert [item.path for item in found.specialisations] == ["blocks.0"]


class TwoInputs(nn.Module):
    def forward(self, left, right):
        return left + right if left.shape == right.shape else left - right[0]


def test_equal_sizes_of_two_inputs_are_a_decision_if_the_model_asks():
    found = trace(TwoInputs().eval(), (rows(3), rows(3)), {})
    assert [item.what for item in found.specialisations] == ["`left.shape[0] == right.shape[0]`"]


# ---- values -----------------------------------------------------------------------------------


def sign(block, x):
    return block.layer(x) if x.sum() > 0 else -block.layer(x)


def largest(block, x):
    return block.layer(x) * x.max().item()


def formatted(block, x):
    return block.layer(x) * len(f"{x.sum():.1f}")


def compared(block, x):
    return block.layer(x) if torch.equal(x, x * 2) else x


def filled(block, x):
    return block.layer(x) * torch.full((2,), x.shape[0]).sum().item()


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (sign, "bool"),
        (largest, "item"),
        (formatted, "format"),
        (compared, "equal"),
        (filled, "item"),
    ],
)
def test_a_value_that_is_read_is_said_and_leaves_the_sizes_free(step, name):
    model = seeded(Holder(step))
    found = trace(model, (rows(3).abs(),), {})
    assert found.method == "fake"
    (item,) = found.specialisations
    assert item.what == f"the value of a tensor, read by `{name}`"
    assert (item.path, item.where) == ("block", line_of(step))
    assert torch.equal(found.module(rows(3).abs()), model(rows(3).abs()))
    assert found.module(rows(8)).shape == (8, 4)


def of_its_own(block, x):
    scale = block.layer.bias[0].item() * torch.tensor(3.0).item() * block.factor.item()
    return block.layer(x) * scale if block.flag else x


def test_values_that_no_input_has_a_part_in_are_not_said():
    attributes = {"flag": nn.Buffer(torch.tensor(True)), "factor": torch.tensor(2.0)}
    model = seeded(Holder(of_its_own, **attributes))
    found = trace(model, (rows(3),), {})
    assert (found.method, found.diagnostics) == ("fake", ())
    assert torch.equal(found.module(rows(5)), model(rows(5)))


def listed(block, x):
    return block.layer(x) + sum(x[0].tolist())


def test_a_list_of_values_needs_the_shapes_of_the_example():
    model = seeded(Holder(listed))
    found = trace(model, (rows(3),), {})
    assert [item.what for item in found.specialisations] == [
        "every shape",
        "the value of a tensor, read by `tolist`",
    ]
    assert torch.equal(found.module(rows(3)), model(rows(3)))


def gathered(block, x):
    return block.layer(x[x.sum(1) > 0]).sum(0)


def test_a_size_that_depends_on_values_needs_the_shapes_of_the_example():
    found = trace(seeded(Holder(gathered)), (rows(3),), {})
    assert found.method == "real"
    (item,) = found.specialisations
    assert (item.what, item.path, item.where) == ("every shape", "block", line_of(gathered))
    assert item.why


# ---- what a graph cannot say ------------------------------------------------------------------


def through_numpy(block, x):
    return torch.from_numpy(block.layer(x).numpy() * 2)


def mapped(block, x):
    return torch.vmap(lambda row: row * 2)(block.layer(x))


def assigned(block, x):
    x.data = block.layer(x)
    return x


def raised(block, x):
    raise ValueError("no such thing")


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (through_numpy, "`numpy`"),
        (mapped, "`torch.vmap`"),
        (assigned, "assigns to `data`"),
        (raised, "ValueError: no such thing"),
    ],
)
def test_what_a_graph_cannot_say_is_refused_at_the_line_of_the_model(step, reason):
    with pytest.raises(CompileError) as refused:
        trace(seeded(Holder(step)), (rows(3),), {})
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.code is Code.NOT_TRACEABLE
    assert diagnostic.subject.startswith(step.__code__.co_filename)
    code, running, why = diagnostic.notes
    assert code.startswith("`")
    assert running == "while `block` was running"
    assert reason in why
    assert diagnostic.help


def test_decisions_on_values_of_weights_that_are_not_there_are_refused():
    with pytest.raises(CompileError) as refused:
        trace(seeded(Holder(sign)).to("meta"), (rows(3),), {})
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.subject == line_of(sign)
    assert "value of a tensor" in diagnostic.notes[-1]


# ---- what is no input -------------------------------------------------------------------------


def in_a_plain_list(block, x):
    return block.hidden[0](x)


def test_a_layer_that_is_in_no_module_is_said():
    found = trace(seeded(Holder(in_a_plain_list, hidden=[nn.Linear(4, 4)])), (rows(3),), {})
    assert {item.what for item in found.specialisations} == {
        "a parameter [4, 4] that no module of the model holds",
        "a parameter [4] that no module of the model holds",
    }


def outside(block, x):
    return block.layer(gathered_table()[: x.shape[0]][x.sum(1) > 9].sum() + x)


def gathered_table():
    return TABLE


TABLE = torch.ones(8, 4)


def test_a_tensor_from_elsewhere_is_said_where_the_inputs_may_be_in_it():
    found = trace(seeded(Holder(outside)), (rows(3),), {})
    assert found.method == "real"
    assert "a tensor [8, 4] that no torch function made" in {i.what for i in found.specialisations}


class Options:
    scale = torch.tensor(3.0)


class Scaled(nn.Module):
    def forward(self, x, options, factor=1.0):
        return x * options.scale * factor


def test_an_object_that_is_given_is_said_and_plain_options_are_not():
    found = trace(Scaled().eval(), (rows(3), Options()), {"factor": 2.0})
    assert [item.what for item in found.specialisations] == [
        "the `options` of class `Options` that was given"
    ]
    assert torch.equal(found.module(rows(2)), rows(2) * 6)


def halved(block, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return block.layer(x).float()


def test_autocast_is_left_out_and_said():
    found = trace(seeded(Holder(halved)), (rows(3),), {})
    assert [item.what for item in found.specialisations] == ["computing without `torch.autocast`"]


# ---- the model itself -------------------------------------------------------------------------


def remembers(block, x):
    block.count += 1
    block.seen.append(x)
    block.last, block.cache["x"] = x, x
    return block.layer(x) * (2 if x.sum() > 0 else 3)


def test_what_a_model_writes_down_in_itself_is_undone():
    kept = {"count": nn.Buffer(torch.zeros(2)), "seen": [], "cache": {"y": 1}}
    model = seeded(Holder(remembers, **kept))
    buffer, before = model.block.count, model.block.count.clone()
    seen, cache = model.block.seen, model.block.cache
    trace(model, (rows(3),), {})
    assert model.block.count is buffer
    assert torch.equal(buffer, before)
    assert (model.block.seen, model.block.cache) == ([], {"y": 1})
    assert model.block.seen is seen
    assert model.block.cache is cache
    assert not hasattr(model.block, "last")

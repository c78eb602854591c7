"""The sweep against a loop that keeps nothing, and against itself stopped and continued."""

import json
import math
import operator
import weakref
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save
from torch import fx, nn

from qcompile.capture.unit import Unit
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.failure import CompileError
from qcompile.methods.presets import PRESETS
from qcompile.methods.tuning import Tuning
from qcompile.passes.solvers import round_to_nearest
from qcompile.passes.sweep import sweep
from qcompile.passes.sweep_result import ResultFigures
from qcompile.passes.sweep_state import ChainState
from qcompile.passes.sweep_streams import Streams
from qcompile.passes.sweep_values import relative_error
from qcompile.policy.core import SitePlan, TensorPlan
from qcompile.policy.rule_ref import RuleRef
from qcompile.policy.scheme import (
    IntFormat,
    PerChannel,
    PerTensor,
    PerToken,
    QuantSlot,
)
from qcompile.policy.size import weight_bytes
from qcompile.quant.activation_quantizer import fit
from qcompile.quant.quantized_weight import quantize_weight
from qcompile.quant.range_search import weight_range

CPU = torch.device("cpu")
RTN = Tuning(preset="rtn", solvers=("rtn",))
BY_NAME = {tuning.preset: tuning for tuning in PRESETS}
HYBRID, BRECQ = BY_NAME["hybrid"], replace(BY_NAME["brecq"], steps=3)
LAYERS = replace(BRECQ, preset="brecq by layer", partition="layer")
RULE = RuleRef(file="r.qrecipe", line=1, column=1, text="use w4a8")
W4 = QuantSlot(format=IntFormat(bits=4, signed=True), symmetric=True, granularity=PerChannel())
A8 = QuantSlot(format=IntFormat(bits=8, signed=False), symmetric=False, granularity=PerTensor())
TOKEN = QuantSlot(format=IntFormat(bits=8, signed=True), symmetric=True, granularity=PerToken())


def weight(path, shape, *, spec=W4, storage=None):
    return TensorPlan(
        slot="weight",
        spec=spec,
        parameter=path,
        storage=storage or path,
        shape=shape,
        bytes_before=4 * math.prod(shape),
        bytes_after=weight_bytes(spec, shape, 0),
        decided_by=RULE,
    )


def act(operand, *, spec=A8, slot="act"):
    return TensorPlan(
        slot=slot, spec=spec, operand=operand, bytes_before=0, bytes_after=5, decided_by=RULE
    )


def site(node, *tensors, unit="u", path=None, call=0):
    path = path or node
    return SitePlan(
        key=path if call == 0 else f"{path}@{call}",
        path=path,
        call=call,
        node=node,
        kind="linear",
        unit=unit,
        scheme="w4a8",
        decided_by=RULE,
        tensors=tensors,
    )


def by_node(*sites):
    return {item.node: item for item in sites}


def units_of(module, *names):
    """Units ``u0, u1, ..`` of the given node names, their interfaces read off the graph."""
    nodes = {node.name: node for node in module.graph.nodes}
    found = []
    for index, inside in enumerate(names):
        inputs = dict.fromkeys(
            used.name
            for name in inside
            for used in nodes[name].all_input_nodes
            if used.op != "get_attr" and used.name not in inside
        )
        outputs = [n for n in inside if any(user.name not in inside for user in nodes[n].users)]
        found.append(Unit(f"u{index}", tuple(inside), tuple(inputs), tuple(outputs), True))
    return found


def traced(model):
    return fx.symbolic_trace(model.eval())


def run(module, units, sites, batches, tuning=RTN, **options):
    return list(sweep(module, units, sites, batches, tuning=tuning, seed=0, device=CPU, **options))


def merged(outcomes):
    return {name: t for outcome in outcomes for name, t in outcome.tensors.items()}


def assert_same_tensors(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


class ConvNet(nn.Module):
    """conv - relu - (+ skip) - flatten - linear, with a size and a functional linear."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.head = nn.Linear(48, 5)
        self.proj = nn.Parameter(torch.randn(6, 5, generator=generator))
        with torch.no_grad():
            for parameter in (*self.conv.parameters(), *self.head.parameters()):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)

    def forward(self, x):
        y = torch.relu(self.conv(x))
        z = torch.add(y, x.mean(dim=1, keepdim=True))
        flat = z.reshape(z.size(0), -1)
        return nn.functional.linear(self.head(flat), self.proj)


CONV_SITES = by_node(
    site("conv", weight("conv.weight", (3, 2, 3, 3)), act("x")),
    site("add", act("relu"), act("mean", slot="act2")),
    site("head", weight("head.weight", (5, 48)), act("reshape", spec=TOKEN)),
    site("linear", weight("proj", (6, 5)), act("head")),
)
CONV_UNITS = (["conv", "relu"], ["mean", "add"], ["size", "reshape", "head", "linear"])


def conv_case():
    module = traced(ConvNet())
    generator = torch.Generator().manual_seed(7)
    batches = [{"x": torch.randn(n, 2, 4, 4, generator=generator)} for n in (3, 3, 2)]
    return module, units_of(module, *CONV_UNITS), CONV_SITES, batches


def naive(model, batches):
    """The same quantization written out by hand, every prefix run again at every step."""
    tensors = {}

    def fitted(values, key, spec=A8):
        quantizer = fit(values, spec)
        tensors.update(quantizer.tensors(key))
        return [quantizer(value) for value in values]

    def rounded(parameter, path):
        code = quantize_weight(parameter, W4, 0, weight_range(parameter, W4, 0))
        tensors.update(code.tensors(path))
        return code.dequantize(torch.float32)

    xs = [batch["x"] for batch in batches]
    w = rounded(model.conv.weight, "conv.weight")
    ys = [
        torch.relu(nn.functional.conv2d(x, w, model.conv.bias, padding=1))
        for x in fitted(xs, "conv:act")
    ]
    means = [x.mean(dim=1, keepdim=True) for x in xs]
    pairs = zip(fitted(ys, "add:act"), fitted(means, "add:act2"), strict=True)
    flats = [(y + m).reshape(y.size(0), -1) for y, m in pairs]
    w = rounded(model.head.weight, "head.weight")
    heads = [nn.functional.linear(f, w, model.head.bias) for f in fitted(flats, "head:act", TOKEN)]
    w = rounded(model.proj, "proj")
    return tensors, [nn.functional.linear(h, w) for h in fitted(heads, "linear:act")]


@torch.no_grad()
def test_the_sweep_equals_the_naive_loop_bit_for_bit():
    module, units, sites, batches = conv_case()
    model = ConvNet().eval()
    wanted, outputs = naive(model, batches)
    outcomes = run(module, units, sites, batches)
    assert_same_tensors(merged(outcomes), wanted)
    plain = [model(batch["x"]) for batch in batches]
    error = sum(float((q - f).double().square().sum()) for q, f in zip(outputs, plain, strict=True))
    power = sum(float(f.double().square().sum()) for f in plain)
    assert outcomes[-1].output_error == pytest.approx(error / power, rel=1e-5)
    assert 0 < outcomes[-1].output_error < 0.1


def test_figures_are_given_for_every_site():
    outcomes = run(*conv_case())
    figures = {figure.key: figure for outcome in outcomes for figure in outcome.sites}
    assert list(figures) == ["conv", "add", "head", "linear"]
    conv = ConvNet().conv.weight.detach()
    rounded = quantize_weight(conv, W4, 0, weight_range(conv, W4, 0)).dequantize(torch.float32)
    wanted = float((rounded - conv).square().sum() / conv.square().sum())
    assert figures["conv"].weight_error == pytest.approx(wanted, rel=1e-5)
    assert figures["add"].weight_error is None
    assert all(figure.output_error > 0 for figure in figures.values())


def test_the_model_and_the_batches_are_only_read():
    module, units, sites, batches = conv_case()
    weights = {name: t.clone() for name, t in module.state_dict().items()}
    inputs = [batch["x"].clone() for batch in batches]
    run(module, units, sites, batches)
    assert_same_tensors(module.state_dict(), weights)
    assert all(torch.equal(b["x"], x) for b, x in zip(batches, inputs, strict=True))
    assert torch.is_grad_enabled()


def test_without_sites_the_streams_stay_one():
    module, units, _, batches = conv_case()
    outcomes = run(module, units, {}, batches)
    assert [outcome.output_error for outcome in outcomes] == [0.0, 0.0, 0.0]
    assert merged(outcomes) == {}
    assert not any("'" in name for outcome in outcomes for name in outcome.state.tensors)


@pytest.mark.parametrize("unit", [0, 1, 2])
def test_going_on_from_saved_bytes_gives_the_same_bits(unit):
    module, units, sites, batches = conv_case()
    whole = run(module, units, sites, batches)
    walk = sweep(module, units, sites, batches, tuning=RTN, seed=0, device=CPU)
    for _ in range(unit + 1):
        state = next(walk).state
    stored = save(state.tensors), json.loads(json.dumps({"index": state.index}))
    again = ChainState(state.unit, load(stored[0]), stored[1]["index"])
    rest = run(module, units, sites, batches, start=again)
    assert [outcome.unit for outcome in rest] == [item.name for item in units[unit + 1 :]]
    for found, wanted in zip(rest, whole[unit + 1 :], strict=True):
        assert_same_tensors(found.tensors, wanted.tensors)
        assert (found.output_error, found.sites) == (wanted.output_error, wanted.sites)
        assert found.state.index == wanted.state.index
        assert_same_tensors(found.state.tensors, wanted.state.tensors)


def views_case():
    """A transposed value, a view of it and a part of it are all live between two units."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    turned = graph.call_method("transpose", (x, 1, 2))
    same = graph.call_method("view_as", (turned, turned))
    part = graph.call_function(operator.getitem, (turned, (..., slice(1, 3))))
    product = graph.call_function(torch.matmul, (turned, part))
    graph.output(graph.call_function(torch.matmul, (same, product)))
    module = fx.GraphModule(nn.Module(), graph)
    names = [node.name for node in graph.nodes if node.op.startswith("call")]
    sites = by_node(
        site("matmul", act("transpose"), act("getitem", slot="act2")),
        site("matmul_1", act("view_as"), act("matmul", slot="act2")),
    )
    batches = [{"x": torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(2))}]
    return module, units_of(module, names[:3], names[3:4], names[4:]), sites, batches


def test_a_state_is_made_of_contiguous_tensors_that_share_nothing():
    case = views_case()
    whole = run(*case)
    values = list(whole[0].state.tensors.values())
    assert len(values) == 3
    assert all(tensor.is_contiguous() for tensor in values)
    assert len({tensor.untyped_storage().data_ptr() for tensor in values}) == 3
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in values)
    again = ChainState("u0", load(save(whole[0].state.tensors)), whole[0].state.index)
    assert_same_tensors(merged(run(*case, start=again)), merged(whole[1:]))


@torch.no_grad()
def test_a_solver_sees_its_input_behind_the_prefix_and_the_float_output(monkeypatch):
    seen = {}

    def watching(problem):
        seen[tuple(problem.weight.shape)] = [problem.samples(n) for n in range(problem.batches)]
        return round_to_nearest(problem)

    monkeypatch.setattr("qcompile.passes.sweep_site.solve", watching)
    module, units, sites, batches = conv_case()
    run(module, units, sites, batches, tuning=Tuning("test", ("optq",)))
    model = ConvNet().eval()
    x = batches[0]["x"]
    quantized, wanted = seen[3, 2, 3, 3][0]
    assert torch.equal(quantized, fit([batch["x"] for batch in batches], A8)(x))
    bias = model.conv.bias[:, None, None]
    assert torch.allclose(wanted + bias, model.conv(x), atol=1e-6)
    flat = (torch.relu(model.conv(x)) + x.mean(dim=1, keepdim=True)).reshape(3, -1)
    quantized, wanted = seen[5, 48][0]
    assert 0 < float((quantized - flat).abs().max()) < 1
    assert torch.allclose(wanted + model.head.bias, model.head(flat), atol=1e-5)
    assert len(seen[5, 48]) == len(batches)


def test_values_are_freed_after_their_last_use():
    held = [
        {name.split(":")[1] for name in outcome.state.tensors if name.startswith("value:")}
        for outcome in run(*conv_case())
    ]
    # x is read again by the mean; a name with ' is of the quantized stream
    assert held == [{"x", "relu", "relu'"}, {"add", "add'"}, set()]


def test_what_a_node_reads_last_goes_batch_by_batch(monkeypatch):
    module, _, sites, batches = conv_case()
    order = [name for unit in CONV_UNITS for name in unit]
    gone = {}
    give_up = Streams.give_up

    def watched(self, names, batch):
        streams = (self.float_values, self.quantized_values)
        refs = [
            (name, weakref.ref(stream(name)[batch]))
            for name in names
            for stream in streams
            if name != "size"
        ]
        give_up(self, names, batch)
        for name, ref in refs:
            gone.setdefault(name, []).append(ref() is None)

    monkeypatch.setattr(Streams, "give_up", watched)
    run(module, units_of(module, order), sites, batches)
    assert {name: set(found) for name, found in gone.items()} == {
        "add": {False},  # what `reshape` is a view of
        **{name: {True} for name in ("x", "conv", "relu", "mean", "reshape", "head")},
    }
    assert all(len(found) == 2 * len(batches) for found in gone.values())


def test_nothing_is_held_inside_a_unit_longer_than_needed(monkeypatch):
    module, _, sites, batches = conv_case()
    order = [name for unit in CONV_UNITS for name in unit]
    live = []
    free = Streams.free

    def watched(self, name):
        free(self, name)
        live.append((name, set(self.live)))

    monkeypatch.setattr(Streams, "free", watched)
    run(module, units_of(module, order), sites, batches)
    assert dict(live) == {
        "conv": {"x", "relu"},
        "x": {"relu", "mean"},
        "relu": {"mean", "add"},
        "mean": {"add"},
        "add": {"size", "reshape"},
        "size": {"reshape"},
        "reshape": {"head"},
        "head": set(),  # the network's output is compared as it comes
    }


@pytest.mark.parametrize("tuning", [RTN, HYBRID, BRECQ, LAYERS], ids=lambda one: one.preset)
def test_an_output_that_is_not_held_is_quantized_and_compared_all_the_same(monkeypatch, tuning):
    module, units, sites, batches = conv_case()
    found = run(module, units, sites, batches, tuning)
    monkeypatch.setattr("qcompile.passes.sweep.is_result", lambda node: False)
    wanted = run(module, units, sites, batches, tuning)
    assert_same_tensors(merged(found), merged(wanted))
    assert [one.output_error for one in found] == [one.output_error for one in wanted]
    assert [one.sites for one in found] == [one.sites for one in wanted]


def test_large_values_are_compared_piece_by_piece(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    found, wanted = torch.randn(2, 7, 5, 3, generator=generator)
    whole = relative_error([found, wanted[0, 0, 0]], [wanted, found[0, 0, 0]])
    monkeypatch.setattr("qcompile.passes.sweep_values.PIECE", 4)
    assert relative_error([found, wanted[0, 0, 0]], [wanted, found[0, 0, 0]]) == pytest.approx(
        whole
    )


def test_an_output_that_is_the_float_one_has_no_error():
    module, units, _, batches = conv_case()
    assert run(module, units, {}, batches)[-1].output_error == 0.0


@pytest.mark.parametrize(("value", "allowed"), [(math.inf, True), (math.nan, False)])
def test_an_output_that_is_not_finite_is_found_behind_the_batch_it_is_in(value, allowed):
    """Side values may be masks of infinities; whether it is one is known later."""
    figures = ResultFigures("u", "node", [2, 2])
    bad = torch.tensor([[0.0], [value]])
    figures.see(0, torch.ones(2, 1), torch.ones(2, 1))
    figures.see(1, torch.ones(2, 1), bad)
    with pytest.raises(CompileError) as failure:
        figures.check(masks_allowed=False)
    (problem,) = failure.value.diagnostics
    assert problem.code is Code.NON_FINITE_BLOCK
    assert (problem.subject, "quantized" in problem.message) == ("calibration sample 3", True)
    if allowed:
        figures.check(masks_allowed=True)
    else:
        with pytest.raises(CompileError):
            figures.check(masks_allowed=True)


class Tied(nn.Module):
    """One module called twice, and a second whose weight is the first's."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(self.first(x)))


def tied_case():
    torch.manual_seed(3)  # default initialisation only
    module = traced(Tied())
    shared = {"shape": (4, 4), "storage": "first.weight"}
    sites = by_node(
        site("first", weight("first.weight", **shared), act("x")),
        site("first_1", weight("first.weight", **shared), act("first"), path="first", call=1),
        site("second", weight("second.weight", **shared), act("first_1")),
    )
    units = units_of(module, ["first"], ["first_1"], ["second"])
    return module, units, sites, [{"x": torch.randn(5, 4)}]


def test_a_shared_weight_is_quantized_once_and_its_calls_have_own_ranges():
    outcomes = run(*tied_case())
    assert [len(o.tensors) for o in outcomes] == [4, 2, 2]
    assert {n for n in merged(outcomes) if n.endswith(":codes")} == {"first.weight:codes"}
    assert {n for n in merged(outcomes) if n.endswith("act.scale")} == {
        "first:act.scale",
        "first@1:act.scale",
        "second:act.scale",
    }
    assert [f.reused_codes for o in outcomes for f in o.sites] == [False, True, True]
    errors = {f.weight_error for o in outcomes for f in o.sites}
    assert len(errors) == 1


@pytest.mark.parametrize("unit", [0, 1])
def test_a_shared_weight_survives_a_stop(unit):
    case = tied_case()
    whole = run(*case)
    state = whole[unit].state
    assert "weight:first.weight:codes" in state.tensors
    again = ChainState(state.unit, load(save(state.tensors)), state.index)
    rest = run(*case, start=again)
    assert_same_tensors(merged(rest), merged(whole[unit + 1 :]))
    assert rest[-1].output_error == whole[-1].output_error
    assert not any(name.startswith("weight:") for name in whole[-1].state.tensors)


class InPlace(nn.Module):
    """Works on its input, on a shared value and by item assignment."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(x)
        y = self.lin(x)
        z = operator.iadd(x, y)
        z.mul_(2.0)
        operator.setitem(z, 0, 1.0)
        return z


def in_place_case():
    graph = fx.Graph()
    torch.manual_seed(5)  # default initialisation only
    model = InPlace().eval()
    x = graph.placeholder("x")
    relu = graph.call_module("relu", (x,))
    lin = graph.call_module("lin", (relu,))
    add = graph.call_function(operator.iadd, (relu, lin))
    graph.call_method("mul_", (add, 2.0))
    graph.call_function(operator.setitem, (add, 0, 1.0))
    graph.output(graph.call_function(torch.sub, (add, 0.0)))
    module = fx.GraphModule(model, graph)
    names = [node.name for node in graph.nodes if node.op not in ("placeholder", "output")]
    sites = by_node(site("lin", weight("lin.weight", (4, 4)), act("relu")))
    return module, units_of(module, names), sites, [{"x": torch.randn(3, 4)}]


@torch.no_grad()
def test_operations_in_place_do_not_leak_between_the_streams():
    module, units, sites, batches = in_place_case()
    before = batches[0]["x"].clone()
    outcome = run(module, units, sites, batches)[0]
    assert torch.equal(batches[0]["x"], before)
    lin = module.get_submodule("lin")
    x = torch.relu(before)
    rounded = quantize_weight(lin.weight, W4, 0, weight_range(lin.weight, W4, 0))
    y = nn.functional.linear(fit([x], A8)(x), rounded.dequantize(torch.float32), lin.bias)
    wanted, plain = 2 * (x + y), 2 * (x + lin(x))
    wanted[0] = plain[0] = 1.0
    error = float((wanted - plain).square().sum() / plain.square().sum())
    assert outcome.output_error == pytest.approx(error, rel=1e-5)
    assert error > 0


def test_an_operand_that_stands_twice_has_a_range_for_each_plan():
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(torch.mul, (x, x)))
    module = fx.GraphModule(nn.Module(), graph)
    coarse = replace(A8, format=IntFormat(bits=2, signed=False))
    batches = [{"x": torch.linspace(-1, 2, 50)}]
    units = units_of(module, ["mul"])

    def error(*tensors):
        return run(module, units, by_node(site("mul", *tensors)), batches)[0].output_error

    value = batches[0]["x"]
    fine, rough = fit([value], A8)(value), fit([value], coarse)(value)

    def wanted(a, b):
        plain = value * value
        return float((a * b - plain).square().sum() / plain.square().sum())

    two = error(act("x"), act("x", spec=coarse, slot="act2"))
    assert two == pytest.approx(wanted(fine, rough), rel=1e-4)
    assert error(act("x", spec=coarse)) == pytest.approx(wanted(rough, rough), rel=1e-4)


def test_a_plan_for_a_node_that_is_no_operand_is_refused():
    module, units, _, batches = conv_case()
    with pytest.raises(ValueError, match="no argument"):
        run(module, units, by_node(site("add", act("conv"))), batches)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_named_by_unit_and_sample(bad):
    module, units, _, batches = conv_case()
    batches[1]["x"][2, 0, 0, 0] = bad
    with pytest.raises(CompileError) as caught:
        run(module, units, {}, batches)
    (problem,) = caught.value.diagnostics
    assert problem.code is Code.NON_FINITE_BLOCK
    assert "`u0`" in problem.message
    assert problem.subject == "calibration sample 5"


def test_progress_is_told_before_each_site():
    steps = []
    run(*conv_case(), progress=steps.append)
    assert [(s.unit, s.site, s.number, s.total) for s in steps] == [
        ("u0", "conv", 1, 4),
        ("u1", "add", 2, 4),
        ("u2", "head", 3, 4),
        ("u2", "linear", 4, 4),
    ]

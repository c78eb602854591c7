"""Block reconstruction: what it learns, what its guard lets through, what it survives."""

import math
from dataclasses import replace

import pytest
import torch
from torch import fx, nn

from qcompile.capture.unit import Unit
from qcompile.methods.presets import preset
from qcompile.methods.tuning import Tuning
from qcompile.passes.block import Block, hard_choice
from qcompile.passes.guard import best, error
from qcompile.passes.held_out import split
from qcompile.passes.reconstruct import reconstruct, tick_steps
from qcompile.passes.sweep import sweep
from qcompile.policy.core import SitePlan, TensorPlan
from qcompile.policy.rule_ref import RuleRef
from qcompile.policy.scheme import IntFormat, PerChannel, PerTensor, QuantSlot
from qcompile.quant.quantized_weight import from_tensors

RULE = RuleRef(file="x", line=1, column=1, text="use")
W2 = QuantSlot(format=IntFormat(bits=2, signed=True), symmetric=True, granularity=PerChannel())
A8 = QuantSlot(format=IntFormat(bits=8, signed=False), symmetric=False, granularity=PerTensor())
CPU = torch.device("cpu")


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(12, 16)
        self.act = nn.ReLU()
        self.second = nn.Linear(16, 12)

    def forward(self, x):
        return x + self.second(self.act(self.first(x)))


def setting(seed=0, batches=16, spoil=None):
    generator = torch.Generator().manual_seed(seed)
    model = TwoLayers().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    mix = torch.randn(12, 12, generator=generator)
    data = [{"x": torch.randn(16, 12, generator=generator) @ mix} for _ in range(batches)]
    if spoil is not None:
        spoil(model, data)
    module = fx.symbolic_trace(model)
    unit = Unit("block", ("first", "act", "second", "add"), ("x",), ("add",), True)
    sites = {
        name: SitePlan(
            key=name,
            path=name,
            call=0,
            node=name,
            kind="linear",
            unit="block",
            scheme="w2a8",
            decided_by=RULE,
            tensors=(
                TensorPlan(
                    slot="weight",
                    spec=W2,
                    parameter=f"{name}.weight",
                    storage=f"{name}.weight",
                    shape=tuple(model.get_submodule(name).weight.shape),
                    bytes_before=0,
                    bytes_after=0,
                    decided_by=RULE,
                ),
                TensorPlan(
                    slot="act",
                    spec=A8,
                    operand={"first": "x", "second": "act"}[name],
                    bytes_before=0,
                    bytes_after=0,
                    decided_by=RULE,
                ),
            ),
        )
        for name in ("first", "second")
    }
    return module, unit, sites, data


def run(tuning, **options):
    module, unit, sites, data = setting(**options)
    [outcome] = sweep(module, [unit], sites, data, tuning=tuning, seed=1, device=CPU)
    return outcome


def quick(name, **update):
    found = preset(name)
    assert found is not None
    return replace(found, **{"steps": 150, "precision": "fp32", **update})


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["adaround", "brecq", "qdrop", "optq"])
def test_every_preset_beats_nearest_rounding_on_the_output(name, seed):
    nearest = run(quick("rtn"), seed=seed).output_error
    found = run(quick(name), seed=seed).output_error
    assert found < 0.8 * nearest


def test_learning_from_optq_codes_beats_optq():
    tuning = quick("brecq", solvers=("optq", "gradient"))
    for seed in range(3):
        [(name, account)] = run(tuning, seed=seed).accounts
        assert name == "block"
        assert account.kept in ("start", "learned")
        assert min(account.start, account.learned) <= account.nearest
    gains = [
        run(quick("optq"), seed=seed).output_error - run(tuning, seed=seed).output_error
        for seed in range(3)
    ]
    assert sum(gains) > 0


def test_account_is_of_batches_that_took_no_part():
    [(_, account)] = run(quick("brecq")).accounts
    assert account.held_out_samples == 32  # two of sixteen batches of 16
    assert account.steps == 150
    assert account.kept == "learned"


def test_same_seed_same_bits_and_another_seed_other_bits():
    first, again = run(quick("qdrop")), run(quick("qdrop"))
    assert all(torch.equal(first.tensors[name], again.tensors[name]) for name in first.tensors)
    module, unit, sites, data = setting()
    [other] = sweep(module, [unit], sites, data, tuning=quick("qdrop"), seed=2, device=CPU)
    assert any(not torch.equal(first.tensors[n], other.tensors[n]) for n in first.tensors)


def test_activation_scales_move_only_where_they_are_learned():
    fixed = run(quick("brecq", learn=("rounding",)))
    learned = run(quick("brecq"))
    nearest = run(quick("rtn"))
    name = "second:act.scale"
    assert torch.equal(fixed.tensors[name], nearest.tensors[name])
    assert not torch.equal(learned.tensors[name], nearest.tensors[name])


def test_diverging_optimizer_keeps_the_start_and_says_so():
    tuning = quick("brecq", act_lr=1e30)
    outcome = run(tuning)
    [(_, account)] = outcome.accounts
    assert account.kept != "learned"
    for name, tensor in run(quick("rtn")).tensors.items():
        assert torch.equal(outcome.tensors[name], tensor)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda model, data: model.first.weight.data.zero_(),
        lambda model, data: model.first.weight.data.fill_(0.25),
        lambda model, data: [batch["x"][:, 3].zero_() for batch in data],
    ],
    ids=["zero weight", "constant weight", "dead input"],
)
def test_degenerate_layers_give_finite_positive_scales(spoil):
    for name in ("optq", "brecq"):
        outcome = run(quick(name), spoil=spoil)
        for tensor in outcome.tensors.values():
            assert bool(torch.isfinite(tensor.float()).all())
        assert all(bool((t > 0).all()) for n, t in outcome.tensors.items() if "scale" in n)


def test_one_batch_is_fit_and_guard_at_once():
    [(_, account)] = run(quick("brecq"), batches=1).accounts
    assert account.held_out_samples == 0
    assert "one batch" in account.note
    assert math.isfinite(account.start)


def test_the_share_of_undecided_gates_is_told_for_each_layer_and_noted_above_a_hundredth():
    [(_, account)] = run(quick("brecq", steps=20)).accounts
    assert account.soft_shares.keys() == {"first.weight", "second.weight"}
    assert account.soft_share == max(account.soft_shares.values()) > 0.01
    assert f"{account.soft_share:.1%} of `" in account.note
    assert account.kept == "learned"
    [(_, decided)] = run(quick("signround", steps=20)).accounts
    assert set(decided.soft_shares.values()) == {0.0}
    assert decided.note == ""


def test_guard_takes_the_least_error_and_a_tie_goes_to_the_start():
    assert best({"nearest": 2.0, "start": 1.0, "learned": 0.5}) == "learned"
    assert best({"nearest": 2.0, "start": 1.0, "learned": 1.0}) == "start"
    assert best({"nearest": 0.9, "start": 1.0, "learned": 0.95}) == "nearest"
    assert best({"nearest": 1.0, "start": 1.0, "learned": math.inf}) == "start"


def test_split_holds_back_one_batch_in_eight():
    assert split(16) == (list(range(14)), [14, 15])
    assert split(2) == ([0], [1])
    assert split(1) == ([0], [0])


def test_progress_is_told_about_twenty_times():
    assert len(tick_steps(1000)) in (20, 21)
    assert 999 in tick_steps(1000)
    assert tick_steps(3) == {0, 1, 2}
    assert tick_steps(0) == frozenset()


def test_progress_counts_every_piece_of_work():
    module, unit, sites, data = setting()
    steps = []
    tuning = quick("brecq")
    list(
        sweep(module, [unit], sites, data, tuning=tuning, seed=1, device=CPU, progress=steps.append)
    )
    assert [s.number for s in steps] == list(range(1, len(steps) + 1))
    assert all(s.total == len(steps) for s in steps)
    assert steps[-1].loss < 1


def test_error_of_the_exact_block_is_zero():
    module, unit, _, data = setting()
    nodes = {node.name: node for node in module.graph.nodes}
    with torch.no_grad():
        targets = [module(batch["x"]) for batch in data]
    inputs = {"x": [batch["x"] for batch in data]}
    block = Block(
        module, CPU, tuple(nodes[n] for n in unit.nodes), "add", {}, inputs, inputs, targets
    )
    assert error(block, hard_choice(block, {}, {}), [0, 1]) == 0
    result = reconstruct(
        block, Tuning(preset="x", solvers=("gradient",), steps=2), torch.Generator(), lambda t: None
    )
    assert result.account.note == "no weight of its own"


class SharedTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(12, 12)

    def forward(self, x):
        return self.shared(torch.relu(self.shared(x)))


def test_weight_used_twice_in_a_block_is_the_same_at_both_calls():
    generator = torch.Generator().manual_seed(0)
    model = SharedTwice().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    module = fx.symbolic_trace(model)
    data = [{"x": torch.randn(16, 12, generator=generator)} for _ in range(8)]
    weight = TensorPlan(
        slot="weight",
        spec=W2,
        parameter="shared.weight",
        storage="shared.weight",
        shape=(12, 12),
        bytes_before=0,
        bytes_after=0,
        decided_by=RULE,
    )
    sites = {
        name: SitePlan(
            key=key,
            path="shared",
            call=call,
            node=name,
            kind="linear",
            unit="block",
            scheme="w2",
            decided_by=RULE,
            tensors=(weight,),
        )
        for call, (name, key) in enumerate([("shared", "shared"), ("shared_1", "shared@1")])
    }
    unit = Unit("block", ("shared", "relu", "shared_1"), ("x",), ("shared_1",), True)
    tuning = quick("brecq")
    [outcome] = sweep(module, [unit], sites, data, tuning=tuning, seed=1, device=CPU)
    [(_, account)] = outcome.accounts
    assert account.kept == "learned"
    codes = from_tensors(outcome.tensors, "shared.weight", W2, (12, 12), 0)
    shipped = codes.dequantize(torch.float32)
    x = torch.cat([batch["x"] for batch in data])
    with torch.no_grad():
        wanted = model(x)
        first = torch.relu(nn.functional.linear(x, shipped, model.shared.bias))
        found = nn.functional.linear(first, shipped, model.shared.bias)
    error_of_shipped = ((found - wanted).square().sum() / wanted.square().sum()).item()
    assert outcome.output_error == pytest.approx(error_of_shipped, rel=1e-5)


class TwoOutputs(nn.Module):
    """The second output is the main one; the first layer has no part in it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(12, 16)
        self.second = nn.Linear(16, 12)

    def forward(self, x):
        return self.first(x), self.second(x[:, :1].expand(-1, 16))


def test_a_layer_that_the_main_output_does_not_see_is_left_alone():
    module = fx.symbolic_trace(TwoOutputs().eval())
    _, _, sites, data = setting(batches=4)
    second = sites["second"]
    sites = {**sites, "second": second.model_copy(update={"tensors": second.tensors[:1]})}
    names = ("first", "getitem", "expand", "second")
    unit = Unit("block", names, ("x",), ("first", "second"), True)
    ends = {}
    for name in ("rtn", "brecq"):
        tuning = quick(name, steps=20 if name == "brecq" else 0)
        [ends[name]] = sweep(module, [unit], sites, data, tuning=tuning, seed=1, device=CPU)
    names = [name for name in ends["rtn"].tensors if name.startswith("first.weight")]
    assert names
    for name in names:
        assert torch.equal(ends["brecq"].tensors[name], ends["rtn"].tensors[name])

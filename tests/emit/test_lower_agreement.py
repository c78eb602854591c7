import pytest
import torch
from torch import nn

from qcompile.capture.trace import trace
from qcompile.compat.cpu_features import multiplies_bytes
from qcompile.emit.lower import rewriting
from qcompile.emit.lower.agreement import agreement, compare
from qcompile.emit.lower.difference import relative, worst
from qcompile.emit.lower.exact import simulation
from qcompile.emit.lower.replay import Recorded, record
from tests.emit.lowering import X86, lowered

pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")


def test_the_check_sees_a_wrong_result_and_a_changed_input(planned):
    x = torch.randn(5, 24)
    reference, made = lowered(planned, nn.Sequential(nn.Linear(24, 8)), x)
    recorded = record(reference, [made.module], [x])
    assert compare(recorded, made.module, [x], X86).problems == ()
    wrong = made.module.get_buffer("_0_factor")
    wrong.mul_(1.1)
    (problem,) = compare(recorded, made.module, [x], X86).problems
    assert "at `_0`, more than 0.005" in problem.message

    class Overwrites(nn.Module):
        def forward(self, x):
            y = x + 1
            x.add_(1)
            return y

    net = trace(Overwrites(), (x,), {}).module
    (problem,) = compare(Recorded((x + 1,)), net, [x], X86).problems
    assert (problem.code.number, "overwrite the input `x`" in problem.message) == ("QR930", True)


def test_layers_are_judged_on_the_values_of_the_reference(planned):
    """A wrong layer is named, though all behind it are wrong then too; the first stays right."""
    x = torch.randn(5, 24)
    net = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24), nn.Linear(24, 8))
    reference, made = lowered(planned, net, x)
    recorded = record(reference, [made.module], [x])
    made.module.get_buffer("_2_factor").mul_(3)
    found = compare(recorded, made.module, [x], X86)
    (problem,) = found.problems
    assert "at `fake_quantize_2`" in problem.message  # codes of the second layer, for the third
    made.module.get_buffer("_2_factor").div_(3)
    found = compare(recorded, made.module, [x], X86)
    assert found.problems == ()
    assert found.layer_difference < 2e-3


def test_a_kernel_that_gives_no_numbers_is_named_whatever_comes_behind_it(planned):
    x = torch.randn(5, 24)
    net = nn.Sequential(nn.Linear(24, 24), nn.LayerNorm(24), nn.Linear(24, 8))
    reference, made = lowered(planned, net, x)
    recorded = record(reference, [made.module], [x])
    made.module.get_buffer("_0_factor").fill_(torch.nan)
    (problem,) = compare(recorded, made.module, [x], X86).problems
    assert "differ from the float reference by nan at `_0`" in problem.message


def test_one_value_that_is_no_number_is_the_worst_pair():
    one, broken = torch.tensor([1.0]), torch.tensor([float("nan")])
    assert worst([one, broken], [one, one]) != worst([one, broken], [one, one])
    assert worst([one * 3, one], [one, one]) == 2.0
    assert worst([], []) == 0.0


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([1.0, 3.0], [1.0, 2.0], (1 / 5) ** 0.5),
        ([float("-inf"), 2.0], [float("-inf"), 2.0], 0.0),
        ([float("nan"), 2.0], [1.0, 2.0], float("nan")),
        ([1.0], [0.0], float("inf")),
        ([1.0, 2.0], [1.0], float("inf")),
    ],
)
def test_the_difference_is_relative_to_the_output(ours, theirs, expected):
    found = relative(torch.tensor(ours), torch.tensor(theirs))
    assert found == pytest.approx(expected, nan_ok=True)


class WritesThroughAView(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(24, 24), nn.Linear(24, 8)

    def forward(self, x):
        h = torch.relu(x)
        y = self.one(h)
        h.view(-1).add_(0.3)
        return y[:, :8] + self.two(h)


def test_what_kernels_and_simulation_have_wrong_alike_is_seen(planned, monkeypatch):
    monkeypatch.setattr(rewriting, "may_be_written", lambda *places: False)
    x = torch.randn(5, 24, generator=torch.Generator().manual_seed(0))
    reference, made = lowered(planned, WritesThroughAView(), x)
    assert worst([made.module(x)], [simulation(reference)(x)]) == 0.0
    problems = agreement(reference, simulation(reference), made, X86).problems
    who = [problem.message.partition(" from the float reference")[0] for problem in problems]
    assert who == ["the kernels of `x86-int8` differ", "the simulation differs"]
    monkeypatch.undo()
    reference, made = lowered(planned, WritesThroughAView(), x)
    found = agreement(reference, simulation(reference), made, X86)
    assert (found.problems, found.difference) == ((), 0.0)

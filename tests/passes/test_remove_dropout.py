import torch

from qcompile.capture.trace import trace
from qcompile.passes.remove_dropout import RemoveDropout
from tests.tiny_models import Mlp, seeded


def test_dropout_goes_and_the_rest_stays():
    model = seeded(Mlp())
    module = trace(model, (torch.ones(2, 8),), {}).module
    result = RemoveDropout().run(module)
    assert result.changed
    assert [n.name for n in result.module.graph.nodes] == ["x", "fc1", "act", "fc2", "output"]
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(result.module(x), model(x))
    assert "drop" in [n.name for n in module.graph.nodes]


def test_second_run_changes_nothing():
    module = trace(seeded(Mlp()), (torch.ones(2, 8),), {}).module
    once = RemoveDropout().run(module)
    assert not RemoveDropout().run(once.module).changed

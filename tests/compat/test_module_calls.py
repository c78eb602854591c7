import pytest
from torch import nn

from qcompile.compat.module_calls import has_hooks, intercepted_calls


def test_calls_are_restored_after_an_error():
    before = nn.Module.__call__

    def fail(call, module, args, kwargs):
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"), intercepted_calls(fail):
        nn.Identity()(1)
    assert nn.Module.__call__ is before
    assert nn.Identity()(1) == 1


def test_hooks_are_seen():
    layer = nn.Identity()
    assert not has_hooks(layer)
    layer.register_forward_pre_hook(lambda module, args: None)
    assert has_hooks(layer)

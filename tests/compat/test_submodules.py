import pytest
from torch import nn

from qcompile.compat.submodules import module_at


class Bare(nn.Module):
    """With a place that nothing fills."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        self.register_module("none", None)
        self.number = 3


def test_a_module_is_found_where_torch_finds_it():
    model = Bare()
    for path, module in model.named_modules():
        assert module_at(model, path) is module is model.get_submodule(path)


@pytest.mark.parametrize("path", ["inner.2", "outer", "none", "number", "inner.0.weight", "inner."])
def test_what_is_no_module_is_an_error_as_there(path):
    with pytest.raises(AttributeError):
        Bare().get_submodule(path)
    with pytest.raises(AttributeError):
        module_at(Bare(), path)

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from qcompile.compat.composites import without_override_check


class Names(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_entered_function_shows_its_parts_and_not_itself():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    with Names() as hidden:
        whole = functional.normalize(x)
    with Names() as entered:
        parts = without_override_check(functional.normalize)(x)
    assert hidden.seen == ["normalize"]
    assert "normalize" not in entered.seen
    assert len(entered.seen) > 1
    assert torch.equal(whole, parts)


def test_torch_keeps_its_own_check():
    before = functional.has_torch_function_variadic
    without_override_check(functional.normalize)
    assert functional.has_torch_function_variadic is before

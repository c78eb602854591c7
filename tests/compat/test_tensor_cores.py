"""What is said of a CUDA device, on a machine that only pretends to have one."""

import pytest
import torch

from qcompile.compat import tensor_cores


@pytest.fixture
def device(monkeypatch):
    """A device of capability 8.0 whose products are ``trials``."""

    def pretend(**trials):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Imagined 80")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
        for name, trial in trials.items():
            monkeypatch.setattr(tensor_cores, name, trial)

    return pretend


def no_kernel():
    raise NotImplementedError("no kernel image for this device\nand a long trace")


def test_a_product_that_runs_is_there_and_nothing_is_said_of_it(device):
    device(_try_int8=lambda: True, _try_int4=lambda: True)
    assert tensor_cores.has_int8()
    assert tensor_cores.has_int4()
    assert not tensor_cores.has_fp8()  # needs 8.9
    assert tensor_cores.found_devices() == (
        "this torch sees Imagined 80, of compute capability 8.0"
    )


def test_a_product_that_should_run_and_does_not_says_why(device):
    device(_try_int8=no_kernel, _try_int4=lambda: False)
    assert not tensor_cores.has_int8()
    assert not tensor_cores.has_int4()
    assert tensor_cores.found_devices() == (
        "this torch sees Imagined 80, of compute capability 8.0"
        "; 8-bit integer products fail there: no kernel image for this device"
        "; 4-bit products fail there: its result is wrong"
    )


def test_other_errors_are_not_taken_for_an_answer(device):
    def broken():
        raise TypeError("a defect of ours")

    device(_try_int8=broken)
    with pytest.raises(TypeError, match="a defect of ours"):
        tensor_cores.has_int8()

import pytest
import torch

from qcompile.policy.scheme import (
    IntFormat,
    MinMax,
    PerChannel,
    PerGroup,
    PerTensor,
    PerToken,
    QuantSlot,
)
from qcompile.policy.size import activation_bytes
from qcompile.quant.activation_quantizer import fit, from_tensors


def slot(granularity, *, symmetric=False, dynamic=False):
    return QuantSlot(
        format=IntFormat(bits=4, signed=symmetric),
        symmetric=symmetric,
        granularity=granularity,
        observer=MinMax(),
        dynamic=dynamic,
    )


BATCHES = [torch.randn(3, 4, 5), torch.randn(2, 4, 5) * 3]


@pytest.mark.parametrize(
    "spec",
    [
        slot(PerTensor()),
        slot(PerTensor(), symmetric=True),
        slot(PerChannel(axis=1)),
        slot(PerChannel(axis=-2)),
        slot(PerToken()),
        slot(PerTensor(), dynamic=True),
    ],
    ids=str,
)
def test_what_is_saved_has_the_forecast_bytes_and_acts_the_same(spec):
    quantizer = fit(BATCHES, spec)
    tensors = quantizer.tensors("site:act")
    assert sum(tensor.nbytes for tensor in tensors.values()) == activation_bytes(spec, 4)
    again = from_tensors(tensors, "site:act", spec)
    assert torch.equal(again(BATCHES[0]), quantizer(BATCHES[0]))
    assert not torch.equal(quantizer(BATCHES[0]), BATCHES[0])


def test_a_static_range_is_over_all_batches():
    quantizer = fit(BATCHES, slot(PerTensor()))
    low, high = torch.cat(BATCHES).aminmax()
    assert float(quantizer.scale) == pytest.approx(float(high - low) / 15)
    assert list(quantizer.tensors("a.b:act2")) == ["a.b:act2.scale", "a.b:act2.zero_point"]


def test_groups_of_activations_are_refused():
    with pytest.raises(ValueError, match="group"):
        fit(BATCHES, slot(PerGroup(size=2)))

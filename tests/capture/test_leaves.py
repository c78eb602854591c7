from inspect import signature

import pytest
import torch
from torch import nn

from qcompile.capture.balance import ChannelBalance
from qcompile.capture.kinds import MODULE_KINDS
from qcompile.capture.leaves import LEAVES, build_leaf, constructor_arguments, is_leaf
from qcompile.capture.rotation import BlockRotation

IMAGE, VOLUME, SIGNAL = (2, 4, 8, 8), (2, 4, 6, 6, 6), (2, 4, 8)

EXAMPLES = (
    (nn.Linear(8, 3, bias=False), SIGNAL),
    (nn.Conv1d(4, 6, 3, 2, padding="valid"), SIGNAL),
    (nn.Conv2d(4, 6, (3, 1), groups=2, dilation=2, padding_mode="reflect", padding=1), IMAGE),
    (nn.Conv3d(4, 2, 3, bias=False), VOLUME),
    (nn.ConvTranspose1d(4, 2, 3, stride=2, output_padding=1), SIGNAL),
    (nn.ConvTranspose2d(4, 2, 3, groups=2, bias=False), IMAGE),
    (nn.ConvTranspose3d(4, 2, 2), VOLUME),
    (nn.BatchNorm1d(4, eps=1e-3), SIGNAL),
    (nn.BatchNorm2d(4, affine=False), IMAGE),
    (nn.BatchNorm3d(4, momentum=None), VOLUME),
    (nn.InstanceNorm1d(4), SIGNAL),
    (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), IMAGE),
    (nn.InstanceNorm3d(4), VOLUME),
    (nn.LayerNorm((8, 8), bias=False), IMAGE),
    (nn.GroupNorm(2, 4, affine=False), IMAGE),
    (nn.RMSNorm(8, eps=1e-3), SIGNAL),
    (nn.LeakyReLU(0.3), SIGNAL),
    (nn.ELU(0.5), SIGNAL),
    (nn.CELU(0.5), SIGNAL),
    (nn.GELU("tanh"), SIGNAL),
    (nn.Softplus(2.0, 5.0), SIGNAL),
    (nn.Softshrink(0.2), SIGNAL),
    (nn.Hardshrink(0.2), SIGNAL),
    (nn.Hardtanh(-0.5, 0.25), SIGNAL),
    (nn.Threshold(0.1, 20.0), SIGNAL),
    (nn.GLU(1), SIGNAL),
    (nn.Softmax(1), SIGNAL),
    (nn.Softmin(1), SIGNAL),
    (nn.LogSoftmax(-1), SIGNAL),
    (nn.Softmax2d(), IMAGE),
    (nn.MaxPool1d(2), SIGNAL),
    (nn.MaxPool2d((3, 2), 2, 1, ceil_mode=True), IMAGE),
    (nn.MaxPool3d(2), VOLUME),
    (nn.AvgPool1d(2, count_include_pad=False), SIGNAL),
    (nn.AvgPool2d(3, 1, 1, divisor_override=5), IMAGE),
    (nn.AvgPool3d(2), VOLUME),
    (nn.AdaptiveAvgPool1d(3), SIGNAL),
    (nn.AdaptiveAvgPool2d((None, 2)), IMAGE),
    (nn.AdaptiveAvgPool3d(2), VOLUME),
    (nn.AdaptiveMaxPool1d(3), SIGNAL),
    (nn.AdaptiveMaxPool2d((2, 3)), IMAGE),
    (nn.AdaptiveMaxPool3d(2), VOLUME),
    (nn.Dropout(0.3), SIGNAL),
    (nn.Flatten(1, 2), IMAGE),
    (nn.Unflatten(1, (2, 2)), IMAGE),
    (nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True), IMAGE),
    (nn.PixelShuffle(2), IMAGE),
    (nn.PixelUnshuffle(2), IMAGE),
    (BlockRotation(8, 4), SIGNAL),
    (ChannelBalance(8), SIGNAL),
    *((getattr(nn, f"ZeroPad{n}d")(1), s) for n, s in ((1, SIGNAL), (2, IMAGE), (3, VOLUME))),
    *(
        (getattr(nn, f"ConstantPad{n}d")(1, 2.5), s)
        for n, s in ((1, SIGNAL), (2, IMAGE), (3, VOLUME))
    ),
    *((getattr(nn, f"ReflectionPad{n}d")(1), s) for n, s in ((1, SIGNAL), (2, IMAGE), (3, VOLUME))),
    *(
        (getattr(nn, f"ReplicationPad{n}d")(1), s)
        for n, s in ((1, SIGNAL), (2, IMAGE), (3, VOLUME))
    ),
    *((cls(), SIGNAL) for cls in LEAVES if not LEAVES[cls] and cls is not nn.Softmax2d),
    *((cls(), SIGNAL) for cls in LEAVES if LEAVES[cls] == ("inplace",)),
    *(
        (cls(0.3), SIGNAL if cls is nn.Dropout1d else IMAGE)
        for cls in LEAVES
        if LEAVES[cls] == ("p", "inplace")
    ),
)


def identifier(value):
    return type(value).__name__ if isinstance(value, nn.Module) else ""


def assert_rebuilds(module, x):
    module.eval()
    rebuilt = build_leaf(type(module), constructor_arguments(module))
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in rebuilt.state_dict().items()}
    assert all(tensor.is_meta for tensor in rebuilt.state_dict().values())
    rebuilt.load_state_dict(module.state_dict(), assign=True)
    assert torch.equal(rebuilt(x.clone()), module(x.clone()))


@pytest.mark.parametrize(("module", "shape"), EXAMPLES, ids=identifier)
def test_rebuilt_leaf_computes_the_same(module, shape):
    assert_rebuilds(module, torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def test_rebuilt_embedding_computes_the_same():
    ids = torch.randint(0, 7, (2, 5), generator=torch.Generator().manual_seed(0))
    assert_rebuilds(nn.Embedding(7, 3, padding_idx=1), ids)


def test_every_leaf_class_has_an_example():
    assert {type(module) for module, _ in EXAMPLES} | {nn.Embedding} == set(LEAVES)


def test_every_leaf_class_has_a_kind_or_is_said_to_have_none():
    assert set(MODULE_KINDS) == set(LEAVES)


@pytest.mark.parametrize("cls", LEAVES, ids=lambda cls: cls.__name__)
def test_table_names_every_constructor_argument(cls):
    placed = {"device", "dtype"}
    private_or_renamed = {"_weight", "_freeze", "min_value", "max_value"}
    accepted = set(signature(cls).parameters) - placed - private_or_renamed
    listed = set(LEAVES[cls])
    varying = {"args", "kwargs"}
    assert accepted - varying <= listed
    assert listed - accepted <= {"bias"}


def test_subclass_and_hooked_module_are_entered():
    class Own(nn.Linear):
        pass

    hooked = nn.Linear(2, 2)
    hooked.register_forward_hook(lambda module, args, out: out * 2)
    assert is_leaf(nn.Linear(2, 2))
    assert not is_leaf(Own(2, 2))
    assert not is_leaf(hooked)

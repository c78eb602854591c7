"""The parts of the kernel benchmark that need neither its models nor a quiet machine."""

import time

import torch
from torch import nn

from qcompile.capture.trace import trace
from tests.bench.kernel_cell import _Macs, medians
from tests.bench.kernel_models import resnet18
from tests.bench.kernels import COLUMNS, IMAGES, cells, table


def test_every_model_is_timed_on_its_targets_with_one_and_two_threads():
    labels = [cell.label for cell in cells()]
    assert len(set(labels)) == len(labels)
    assert "ViT-S/14 x86-int8 2" in labels
    assert "linear 2048x2048 cpu-int4 1" in labels
    assert all(cell.batches == IMAGES for cell in cells() if cell.model == "ResNet-20")


def test_the_table_has_the_agreed_columns():
    row = dict.fromkeys(COLUMNS, 1.0) | {"model": "m", "target": "t", "max_rel_err": 1e-4}
    header, _, line = table([row]).splitlines()
    assert header.count("|") == line.count("|") == len(COLUMNS) + 1
    cells = dict(zip(COLUMNS, line.strip("| ").split(" | "), strict=True))
    assert (cells["max_rel_err"], cells["int_mac_share"]) == ("1.0e-04", "100.0%")


def test_forms_are_timed_in_turn():
    seen = []
    found = medians({"a": lambda: seen.append("a"), "b": lambda: time.sleep(0.002)}, 3)
    assert len(seen) == 4
    assert found["b"] > 2 > found["a"]


def test_products_are_counted_by_layer():
    net = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(6 * 9, 7))
    counter = _Macs(trace(net.eval(), (torch.randn(2, 4, 5, 5),), {}).module)
    counter.run(torch.randn(1, 4, 5, 5))
    assert list(counter.macs.values()) == [6 * 9 * 2 * 9, 54 * 7]


def test_resnet18_has_its_shape():
    net = resnet18()
    assert sum(p.numel() for p in net.parameters()) == 11_689_512
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)

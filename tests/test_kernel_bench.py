"""The parts of the kernel benchmark that need neither its models nor a quiet machine."""

import time
from collections import Counter

import pytest
import torch
from torch import nn

import qcompile
from qcompile.capture.trace import trace
from qcompile.compat.cpu_features import multiplies_bytes
from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from tests.bench.kernel_ceiling import products
from tests.bench.kernel_cell import SCHEMES, _Macs, _row, medians, recipe_text
from tests.bench.kernel_models import resnet18
from tests.bench.kernel_shares import KINDS, kind_of
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


def test_the_document_has_every_field_that_was_asked_for():
    asked = ("model", "target", "threads", "batch", "ms", "float_ms", "bf16_ms", "speedup")
    assert {*asked, "max_rel_err", "int_mac_share", "fastest"} <= set(COLUMNS)
    x, net = torch.randn(2, 64), nn.Linear(64, 8).eval()
    module = trace(nn.Sequential(net), (x,), {}).module
    row = _row(net, module, module, x, 1, [])
    assert row["fastest"] in ("kernels", "float", "bf16")
    of_cell = {"model", "target", "threads", "batch", "layer_rel_err", "int_mac_share", "load_s"}
    assert set(COLUMNS) - set(row) == of_cell


def test_forms_are_timed_in_turn():
    seen = []
    found = medians({"a": lambda: seen.append("a"), "b": lambda: time.sleep(0.002)}, 3)
    assert len(seen) == 4
    assert found["b"] > 2 > found["a"]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.out, self.add = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        y = torch.relu(self.first(x))
        z = self.out((torch.relu(self.second(y)) + y).mean((2, 3)))
        return self.add(z) + z


@pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")
def test_the_ceiling_is_made_of_every_integer_product_and_of_nothing_else(tmp_path):
    x = torch.randn(4, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    recipe = check_source(Source("r.qrecipe", recipe_text(SCHEMES["x86-int8"], 4))).recipe
    bound = qcompile.bind(recipe, Residual().eval(), (x,))
    qcompile.run(qcompile.plan(bound, x), tmp_path / "a", bound=bound, data=x)
    model = qcompile.load(tmp_path / "a", target="x86-int8")
    before = model(x)
    chain = products(model, x)
    chain()
    assert [len(arguments) for _, arguments in chain.calls] == [17, 17, 13, 13]
    assert all(function(*given).dtype == torch.uint8 for function, given in chain.calls)
    assert torch.equal(model(x), before)
    images, rows = 4 * 6 * 6, 4
    assert chain.multiplications() == images * 8 * 9 * (4 + 8) + rows * 8 * (8 + 8)
    of_nodes = Counter(kind_of(model, node) for node in model.graph.nodes)
    assert {kind: of_nodes[kind] for kind in KINDS} == {
        **{"products": 4, "quantizers": 4, "other operations": 2},
        **dict.fromkeys(("attention", "norms", "pools"), 0),
    }
    assert products(qcompile.load(tmp_path / "a", target="simulate"), x) is None


def test_products_are_counted_by_layer():
    net = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(6 * 9, 7))
    counter = _Macs(trace(net.eval(), (torch.randn(2, 4, 5, 5),), {}).module)
    counter.run(torch.randn(1, 4, 5, 5))
    assert list(counter.macs.values()) == [6 * 9 * 2 * 9, 54 * 7]


def test_resnet18_has_its_shape():
    net = resnet18()
    assert sum(p.numel() for p in net.parameters()) == 11_689_512
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)

"""The slot `kv`: keys and values of an attention, and of nothing else."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qcompile
from qcompile.diagnostics.failure import CompileError
from tests.tiny_models import seeded


class Attends(nn.Module):
    """``[n, t, 8]``: two heads; the product behind it is none of its own."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        q, k, v = (one(x).unflatten(-1, (2, 4)).transpose(1, 2) for one in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return y @ x.transpose(1, 2)


X = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(1))
CALIBRATE = 'calibrate { data = "memory:x"; samples = 4; batch = 2; seed = 1 }\n'


def bound(folder, scheme, *rules):
    lines = "\n".join(f"  {rule}" for rule in rules or ("use s for attention",))
    path = Path(folder, "net.qrecipe")
    text = f"scheme s {{ {scheme} }}\npolicy main {{\n{lines}\n}}\n{CALIBRATE}"
    path.write_text(f'qrecipe 1\nmodel "memory:net"\n{text}')
    return qcompile.bind(qcompile.load_recipe(path), seeded(Attends()), (X[:2],))


def tensors(made, path="scaled_dot_product_attention"):
    (site,) = [one for one in made.planned if one.path == path]
    return [(one.slot, str(one.spec.format)) for one in site.tensors]


def test_keys_and_values_are_rounded_and_queries_are_not(tmp_path):
    made = bound(tmp_path, "kv int4 per_token symmetric observer=clip(1)")
    assert "QR510" not in [one.code.number for one in made.diagnostics]  # for memory, not for work
    assert tensors(made) == [("act2", "int4"), ("act2", "int4")]
    model = seeded(Attends())
    quantized = qcompile.run(qcompile.plan(made, X), tmp_path / "out", bound=made, data=X)
    seen = {}
    attend = F.scaled_dot_product_attention

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is attend:
                seen["args"] = args
            return function(*args, **(kwargs or {}))

    with torch.no_grad(), Watch():
        model(X)
        wanted = seen["args"]
        quantized(X)
    q, k, v = seen["args"]
    assert torch.equal(q, wanted[0])
    for found, plain in ((k, wanted[1]), (v, wanted[2])):
        levels = [len(torch.unique(row)) for row in found.flatten(0, 2)]
        assert not torch.equal(found, plain)
        assert max(levels) <= 16
        torch.testing.assert_close(found, plain, rtol=0, atol=float(plain.abs().max()) / 14)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("act int8", ["int8", "int8", "int8"]),
        ("act int8; kv int4", ["int8", "int4", "int4"]),
        ("act int8; act2 int6", ["int8", "int6", "int6"]),
        ("act int8; act2 int6; kv int4", ["int8", "int4", "int4"]),
        ("act int8; kv float", ["int8"]),
        ("kv fp8_e4m3", ["fp8_e4m3", "fp8_e4m3"]),
    ],
)
def test_an_attention_takes_them_from_the_most_specific_line(tmp_path, scheme, expected):
    assert [number for _, number in tensors(bound(tmp_path, scheme))] == expected


def test_other_products_do_not_know_them(tmp_path):
    made = bound(tmp_path, "act int8; act2 int6; kv int4", "use s for matmul or attention")
    assert tensors(made, "matmul") == [("act", "int8"), ("act2", "int6")]


def test_set_reaches_them_alone_and_act_no_longer_does(tmp_path):
    use = "use s for matmul or attention"
    alone = bound(tmp_path, "act int8", use, "set kv.bits = 4 for attention")
    assert [number for _, number in tensors(alone)] == ["int8", "int4", "int4"]
    apart = bound(tmp_path, "act int8; kv int6", use, "set act.bits = 4 for matmul or attention")
    assert [number for _, number in tensors(apart)] == ["int4", "int6", "int6"]
    together = bound(tmp_path, "act int8", use, "set act.bits = 4 for matmul or attention")
    assert [number for _, number in tensors(together)] == ["int4", "int4", "int4"]
    assert [number for _, number in tensors(together, "matmul")] == ["int4", "int4"]


def test_set_where_there_is_no_attention_has_nothing_to_change(tmp_path):
    with pytest.raises(CompileError) as caught:
        bound(tmp_path, "act int8", "use s for matmul", "set kv.bits = 4 for matmul")
    (problem,) = caught.value.diagnostics
    assert problem.code.number == "QR306"
    assert "no attention in one operation" in problem.message


def test_a_scheme_that_meets_no_attention_is_said(tmp_path):
    made = bound(tmp_path, "weight int8; kv int8", "use s for linear")
    (found,) = [one for one in made.diagnostics if one.code.number == "QR515"]
    assert (found.message, found.primary.span.text) == (
        "`kv` of `s` has nothing to act on",
        "kv int8",
    )
    met = bound(tmp_path, "weight int8; kv int8", "use s for linear or attention")
    assert "QR515" not in [one.code.number for one in met.diagnostics]


def test_the_line_of_the_scheme_is_to_blame(tmp_path):
    with pytest.raises(CompileError) as caught:
        bound(tmp_path, "act int8; kv int8 per_channel(0)")
    assert [one.primary.span.text for one in caught.value.diagnostics] == ["kv int8 per_channel(0)"]

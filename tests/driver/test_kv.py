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
    """``[n, t, 64]``: two heads; the product behind it is none of its own."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(64, 64) for _ in range(3))

    def forward(self, x):
        q, k, v = (
            one(x).unflatten(-1, (2, 32)).transpose(1, 2) for one in (self.q, self.k, self.v)
        )
        y = self.attend(q, k, v).transpose(1, 2).flatten(2)
        return y @ x.transpose(1, 2)

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)


class Masked(Attends):
    def attend(self, q, k, v):
        mask = (q[:, :1, :, :1] > 0).float() * -9.0  # depends on the input, as operands do
        return F.scaled_dot_product_attention(q, k, k, mask)


class Named(Attends):
    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(value=v, key=k, query=q)


class OfItself(Attends):
    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, q, v)


class Asks(Attends):
    """Its queries are a parameter: it reads keys and values alone."""

    def __init__(self):
        super().__init__()
        self.asked = nn.Parameter(torch.ones(1, 2, 5, 32))

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(self.asked, k, v)


X = torch.randn(4, 5, 64, generator=torch.Generator().manual_seed(1))
CALIBRATE = 'calibrate { data = "memory:x"; samples = 4; batch = 2; seed = 1 }\n'


def bound(folder, scheme, *rules, model=Attends, more=""):
    lines = "\n".join(f"  {rule}" for rule in rules or ("use s for attention",))
    path = Path(folder, "net.qrecipe")
    text = f"scheme s {{ {scheme} }}\n{more}policy main {{\n{lines}\n}}\n{CALIBRATE}"
    path.write_text(f'qrecipe 1\nmodel "memory:net"\n{text}')
    return qcompile.bind(qcompile.load_recipe(path), seeded(model()), (X[:2],))


def tensors(made, path="scaled_dot_product_attention"):
    (site,) = [one for one in made.planned if one.path == path]
    return [(one.slot, str(one.spec.format)) for one in site.tensors]


def attended(model, x):
    """Query, key and value as the attention of ``model`` is given them."""
    seen = {}
    attend = F.scaled_dot_product_attention

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is attend:
                seen.update(zip(("query", "key", "value", "mask"), args, strict=False))
                seen.update(kwargs or {})
            return function(*args, **(kwargs or {}))

    with torch.no_grad(), Watch():
        model(x)
    return seen


def levels(x):
    """Most numbers that a vector along the last axis has."""
    return max(len(torch.unique(row)) for row in x.reshape(-1, x.shape[-1]))


def quantized(made, folder):
    return qcompile.run(qcompile.plan(made, X), folder / "out", bound=made, data=X)


def test_keys_and_values_are_rounded_and_queries_are_not(tmp_path):
    made = bound(tmp_path, "kv int3 per_token symmetric")
    assert "QR510" not in [one.code.number for one in made.diagnostics]  # for memory, not for work
    assert tensors(made) == [("act2", "int3"), ("act2", "int3")]
    plain, found = attended(seeded(Attends()), X), attended(quantized(made, tmp_path), X)
    assert torch.equal(found["query"], plain["query"])
    for name in ("key", "value"):
        assert levels(plain[name]) == 32
        assert levels(found[name]) <= 8
        top = plain[name].abs().amax(-1, keepdim=True)
        assert ((found[name] - plain[name]).abs() <= top / 6).all()  # half a step of seven


def test_a_mask_is_no_value_and_keys_that_are_values_are_rounded_once(tmp_path):
    made = bound(tmp_path, "kv int3 per_token symmetric", model=Masked)
    assert len(tensors(made)) == 1
    plain, found = attended(seeded(Masked()), X), attended(quantized(made, tmp_path), X)
    given = "attn_mask" if "attn_mask" in plain else "mask"
    assert torch.equal(found[given], plain[given])
    assert levels(found["key"]) <= 8
    assert torch.equal(found["key"], found["value"])


def test_arguments_by_name_are_what_they_are_called(tmp_path):
    made = bound(tmp_path, "kv int3 per_token symmetric", model=Named)
    plain, found = attended(seeded(Named()), X), attended(quantized(made, tmp_path), X)
    assert torch.equal(found["query"], plain["query"])
    assert levels(found["key"]) <= 8
    assert levels(found["value"]) <= 8


def test_keys_that_are_the_queries_are_said(tmp_path):
    made = bound(tmp_path, "kv int3 per_token", model=OfItself)
    (found,) = [one for one in made.diagnostics if one.code.number == "QR515"]
    assert found.message == "`kv` of `s` does not reach all keys and values"


def test_keys_behind_queries_that_are_a_parameter_are_said(tmp_path):
    made = bound(tmp_path, "kv int3 per_token", model=Asks)
    assert len(tensors(made)) == 1
    assert "QR515" in [one.code.number for one in made.diagnostics]


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


def test_set_of_act2_is_not_for_what_kv_says(tmp_path):
    rules = ("use s for attention", "set act2.bits = 4 for attention")
    with pytest.raises(CompileError) as caught:
        bound(tmp_path, "act int8; kv int6", *rules)
    assert [one.code.number for one in caught.value.diagnostics] == ["QR306"]


def test_float_keys_beside_quantized_queries_are_doubtful(tmp_path):
    made = bound(tmp_path, "act int8; kv float")
    assert "QR510" in [one.code.number for one in made.diagnostics]


def test_bits_of_an_attention_with_float_queries_are_those_of_its_keys(tmp_path):
    assert bound(tmp_path, "kv int4", more="expect bits(attention) == 4\n")


def test_a_ladder_may_differ_in_keys_alone(tmp_path):
    more = "scheme t { kv int8 }\nbudget { size <= 1MB; minimize loss_increase }\n"
    made = bound(tmp_path, "kv int4", "choose s, t for attention", more=more)
    assert made.is_open


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
    rule = "set kv.granularity = per_channel(0) for attention"
    with pytest.raises(CompileError) as caught:
        bound(tmp_path, "act int8", "use s for attention", rule)
    assert [one.primary.span.text for one in caught.value.diagnostics] == [rule]

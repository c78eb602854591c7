from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qcompile.capture.trace import trace
from qcompile.diagnostics.failure import CompileError
from qcompile.emit.functional_form import functional_form
from qcompile.emit.materialize import materialize
from qcompile.policy.scheme import Clip, IntFormat, MinMax, PerTensor, PerToken, QuantSlot
from qcompile.quant.fake_quantize import fake_quantize, fake_quantize_dynamic
from qcompile.quant.quantized_weight import from_tensors

W8 = QuantSlot(format=IntFormat(bits=8, signed=True), symmetric=True, granularity=PerTensor())


def graph_of(net, *args):
    return trace(net.eval(), args, {}).module


def dequantized(module, plan, tensors):
    """Float values of every planned weight, by path of the parameter."""
    found = {}
    for site in plan.core.sites:
        for tensor in site.tensors:
            if tensor.slot == "weight":
                code = from_tensors(
                    tensors, tensor.storage, tensor.spec, tensor.shape, tensor.output_axis
                )
                found[tensor.parameter] = code.dequantize(torch.float32)
    return found


def with_weights(module, weights):
    for path, value in weights.items():
        module.get_parameter(path).data.copy_(value)
    return module


@pytest.mark.parametrize("name", ["w4", "w3"])
@pytest.mark.parametrize("net", ["conv", "attention"])
def test_weights_alone_give_the_bits_of_the_float_graph_with_rounded_weights(
    request, planned, specs, net, name
):
    module = request.getfixturevalue(f"{net}_graph")
    batch = request.getfixturevalue(f"{net}_batch")
    plan, tensors = planned(module, specs[name], None)
    made = materialize(module, plan.core, tensors)
    found = made(*batch)
    expected = with_weights(module, dequantized(module, plan, tensors))(*batch)
    found, expected = (r["logits"] if isinstance(r, dict) else r for r in (found, expected))
    assert torch.equal(found, expected)


def test_the_float_weights_are_gone_and_the_source_is_untouched(conv_graph, planned):
    before = {name: value.clone() for name, value in conv_graph.state_dict().items()}
    code = conv_graph.code
    plan, tensors = planned(conv_graph)
    made = materialize(conv_graph, plan.core, tensors)
    weights = {p.parameter for s in plan.core.sites for p in s.tensors if p.slot == "weight"}
    assert weights == {f"{name}.weight" for name in ("stem", "reflect", "same", "up", "head")}
    assert weights.isdisjoint(made.state_dict())
    values = [value.shape for value in made.state_dict().values() if value.is_floating_point()]
    assert not any(before[name].shape in values for name in weights)
    after = conv_graph.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert conv_graph.code == code


def test_biases_keep_their_own_names(conv_graph, planned):
    plan, tensors = planned(conv_graph)
    made = materialize(conv_graph, plan.core, tensors)
    assert torch.equal(made.get_parameter("head.bias"), conv_graph.head.bias)
    assert made.state_dict()["stem_weight_codes"].dtype == torch.uint8


def test_both_operands_of_a_product_have_their_own_range(attention_graph, planned, specs):
    plan, tensors = planned(attention_graph, None, specs["a8"], ("matmul",))
    assert sorted(tensors) == [
        "matmul:act.scale",
        "matmul:act.zero_point",
        "matmul:act2.scale",
        "matmul:act2.zero_point",
    ]
    tensors["matmul:act.scale"] = torch.tensor([0.01])
    made = materialize(attention_graph, plan.core, tensors)
    (node,) = (n for n in made.graph.nodes if n.name == "matmul")
    first, second = node.args
    assert first.target is fake_quantize
    assert second.target is fake_quantize
    assert made.get_buffer(first.args[1].target).item() == pytest.approx(0.01)
    assert made.get_buffer(second.args[1].target).item() == pytest.approx(6 / 255)


class Square(nn.Module):
    def forward(self, x, y):
        return torch.matmul(x, x) + torch.add(y, x)


def test_static_and_dynamic_activations_give_the_reference_bits(planned, specs):
    module = graph_of(Square(), torch.randn(4, 4), torch.randn(4, 4))
    x, y = torch.randn(4, 4), torch.randn(4, 4)
    scale, zero = torch.tensor([6 / 255]), torch.tensor([85], dtype=torch.uint8)
    static = fake_quantize(x, scale, zero, 0, 255, None)
    dynamic = fake_quantize_dynamic(x, 0, 255, False, False)
    for spec, quantized in ((specs["a8"], static), (specs["dynamic"], dynamic)):
        plan, tensors = planned(module, None, spec)
        made = materialize(module, plan.core, tensors)
        assert torch.equal(made(x, y), quantized @ quantized + (y + x))


def test_a_range_for_each_token(planned):
    module = graph_of(nn.Sequential(nn.Linear(3, 2)), torch.randn(4, 3))
    x = torch.randn(5, 3)
    number = IntFormat(bits=8, signed=True)
    per_token = QuantSlot(format=number, symmetric=True, granularity=PerToken())
    for observer, share in ((MinMax(), 1.0), (Clip(share=0.7), 0.7)):
        spec = replace(per_token, dynamic=True, observer=observer)
        plan, tensors = planned(module, None, spec)
        expected = module(fake_quantize_dynamic(x, -128, 127, True, True, share))
        assert tensors == {}
        assert torch.equal(materialize(module, plan.core, tensors)(x), expected)


LEAVES = [
    (nn.Linear(4, 3), (2, 4)),
    (nn.Linear(4, 3, bias=False), (2, 4)),
    (nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2), (2, 4, 9)),
    (nn.Conv1d(4, 6, 5, padding="same"), (2, 4, 9)),
    (nn.Conv1d(4, 6, 4, padding="same", padding_mode="replicate"), (2, 4, 9)),
    (nn.Conv1d(4, 6, 4, padding="valid", padding_mode="circular"), (2, 4, 9)),
    (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 1), padding_mode="reflect"), (2, 4, 8, 9)),
    (nn.Conv2d(4, 6, 3, padding=1, bias=False), (2, 4, 8, 9)),
    (nn.Conv3d(2, 4, 3, padding=(1, 2, 0), padding_mode="circular"), (1, 2, 5, 6, 7)),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1, groups=2), (2, 4, 9)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, dilation=2, bias=False), (2, 4, 5, 6)),
    (nn.ConvTranspose3d(2, 4, 2, padding=1), (1, 2, 4, 5, 6)),
]


@pytest.mark.parametrize(("leaf", "shape"), LEAVES, ids=lambda value: str(value))
def test_a_functional_form_gives_the_bits_of_its_module(leaf, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    form = functional_form(leaf)
    before = F.pad(x, form.padding.amounts, form.padding.mode) if form.padding else x
    assert torch.equal(form.function(before, leaf.weight, leaf.bias, *form.rest), leaf(x))


def test_an_embedding_has_a_functional_form_with_all_its_attributes():
    leaf = nn.Embedding(6, 4, padding_idx=2, max_norm=0.5, norm_type=1.0)
    ids = torch.tensor([[0, 2], [5, 1]])
    form = functional_form(leaf)
    weight = leaf.weight.detach().clone()
    assert not form.takes_bias
    assert form.rest == (2, 0.5, 1.0, False, False)
    with torch.no_grad():
        assert torch.equal(form.function(ids, weight, *form.rest), leaf(ids))


def test_other_modules_have_no_functional_form():
    assert functional_form(nn.LayerNorm(3)) is None


def numbers(call):
    with pytest.raises(CompileError) as raised:
        call()
    return [problem.code.number for problem in raised.value.diagnostics]


def test_missing_and_misshapen_tensors_are_all_named(conv_graph, planned):
    plan, tensors = planned(conv_graph)
    del tensors["stem.weight:codes"]
    tensors["head.weight:scale"] = torch.ones(3)
    tensors["up:act.zero_point"] = torch.zeros(1)
    assert numbers(lambda: materialize(conv_graph, plan.core, tensors)) == ["QR910"] * 3


def test_a_plan_of_another_graph_is_refused(conv_graph, attention_graph, planned):
    plan, tensors = planned(conv_graph)
    assert set(numbers(lambda: materialize(attention_graph, plan.core, tensors))) == {"QR910"}


def test_a_norm_weight_is_refused_with_its_path(planned):
    module = graph_of(nn.Sequential(nn.LayerNorm(3)), torch.randn(2, 3))
    conv, _ = planned(graph_of(nn.Sequential(nn.Linear(3, 1)), torch.randn(2, 3)), W8, None)
    (site,) = conv.core.sites
    node = next(n.name for n in module.graph.nodes if n.op == "call_module")
    weight = site.tensors[0].model_copy(update={"shape": (3,)})
    site = site.model_copy(update={"node": node, "tensors": (weight,)})
    core = conv.core.model_copy(update={"sites": (site,)})
    tensors = {"0.weight:codes": torch.zeros(3, dtype=torch.uint8), "0.weight:scale": torch.ones(1)}
    assert numbers(lambda: materialize(module, core, tensors)) == ["QR530"]


def test_a_buffer_whose_name_is_taken_gets_another(planned):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2, bias=False)
            self.fc_weight_codes = nn.Linear(2, 2)

        def forward(self, x):
            return self.fc_weight_codes(self.fc(x))

    module = graph_of(Net(), torch.randn(1, 3))
    plan, tensors = planned(module, W8, None, ("fc",))
    x = torch.randn(4, 3)
    expected = F.linear(x, dequantized(module, plan, tensors)["fc.weight"])
    expected = module.fc_weight_codes(expected)
    assert torch.equal(materialize(module, plan.core, tensors)(x), expected)

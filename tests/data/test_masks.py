import pytest
import torch
from torch import nn

from qcompile.data.masks import mask_of, without_mask
from qcompile.data.metrics import METRICS, Outcome
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic

OWN = torch.tensor([[1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize("mask", [OWN, OWN.bool(), OWN.to(torch.uint8) * 7])
def test_a_mask_is_true_for_own_positions(mask):
    made = mask_of({"ids": OWN, "mask": mask}, "mask", "data")
    assert isinstance(made, torch.Tensor)
    assert torch.equal(made, OWN.bool())


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ((OWN, OWN), "has batches without names"),
        (OWN, "has batches without names"),
        ({"ids": OWN, "maks": OWN}, "has no tensor `mask`"),
        ({"mask": OWN.float()}, "has float32 [2, 3] in `mask`"),
        ({"mask": OWN[0]}, "has int64 [3] in `mask`"),
        ({"mask": OWN[:, None]}, "has int64 [2, 1, 3] in `mask`"),
        ({"mask": torch.tensor([[1, 0], [0, 0]])}, "has a sample that `mask` masks whole"),
    ],
)
def test_what_is_no_mask_has_its_code(batch, words):
    found = mask_of(batch, "mask", "data")
    assert isinstance(found, Diagnostic)
    assert found.code is Code.MASK
    assert words in found.message
    assert found.help


def test_a_name_that_is_nearly_right_is_proposed():
    found = mask_of({"attention_mask": OWN}, "atention_mask", "data")
    assert isinstance(found, Diagnostic)
    assert found.help == "did you mean `attention_mask`?"


def test_a_model_without_a_mask_is_given_none():
    class Takes(nn.Module):
        def forward(self, ids, mask=None):
            return ids

    class TakesAll(nn.Module):
        def forward(self, ids, **others):
            return ids

    class Plain(nn.Module):
        def forward(self, ids):
            return ids

    batch = {"ids": OWN, "mask": OWN}
    assert without_mask(batch, "mask", Takes()) is batch
    assert without_mask(batch, "mask", TakesAll()) is batch
    assert without_mask(batch, None, Plain()) is batch
    assert without_mask(batch, "mask", Plain()) == {"ids": OWN}


def measured(name, outputs, reference=None, labels=None, mask=None):
    metric = next(metric for metric in METRICS if metric.name == name)
    return metric.measure(Outcome(outputs, reference, labels, torch.zeros(1), mask))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["top1", "agreement"])
def test_decisions_at_padding_do_not_count(name):
    outputs, other = normal(2, 3, 5), normal(2, 3, 5, seed=1)
    labels = torch.randint(0, 5, (2, 3), generator=torch.Generator().manual_seed(2))
    whole = measured(name, outputs, other, labels, OWN.bool())
    parts = [
        measured(name, outputs[s, :n][None], other[s, :n][None], labels[s, :n][None])
        for s, n in ((0, 2), (1, 3))
    ]
    assert whole == tuple(map(sum, zip(*parts, strict=True)))
    assert whole[1] == 5


@pytest.mark.parametrize("name", ["cosine", "sqnr"])
def test_distances_at_padding_do_not_count(name):
    outputs, other = normal(2, 3, 5), normal(2, 3, 5, seed=1)
    whole = measured(name, outputs, other, mask=OWN.bool())
    parts = [measured(name, outputs[s, :n][None], other[s, :n][None]) for s, n in ((0, 2), (1, 3))]
    assert whole[0] == pytest.approx(parts[0][0] + parts[1][0])
    assert whole[1] == 2


@pytest.mark.parametrize("padded", [[[1, 1, 1, 0]], [[0, 1, 1, 1]]])
def test_perplexity_is_of_own_tokens_behind_own_tokens(padded):
    mask = torch.tensor(padded).bool()
    outputs, labels = normal(1, 4, 5), torch.tensor([[3, 1, 4, 2]])
    found = measured("perplexity", outputs, labels=labels, mask=mask)
    wanted = measured("perplexity", outputs[:, mask[0]], labels=labels[:, mask[0]])
    assert found == (pytest.approx(wanted[0]), 2)


def test_one_output_a_sample_has_no_padding():
    outputs, labels = normal(2, 5), torch.tensor([3, 1])
    masked = measured("top1", outputs, labels=labels, mask=OWN.bool())
    assert masked == measured("top1", outputs, labels=labels)

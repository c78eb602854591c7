"""``text:`` data: windows of a text, and ``seq_len`` of all data."""

import sys

import pytest
import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split, WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from qcompile.data.reading import Reading
from qcompile.data.sources import open_data, source_of
from qcompile.diagnostics.codes import Code

WORDS = ["[BOS]", "[EOS]", "[UNK]", "a", "b", "c", "d"]
BOS, EOS, UNK, A, B, C, D = range(len(WORDS))
MODEL = "hf:model"
THREE = Reading(MODEL, 3)


def tokenizer(template=None):
    """A token a word; ``template`` says what stands around a text."""
    made = Tokenizer(WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = WhitespaceSplit()
    made.add_special_tokens(["[BOS]", "[EOS]"])
    if template:
        pairs = [("[BOS]", BOS), ("[EOS]", EOS)]
        made.post_processor = TemplateProcessing(single=template, special_tokens=pairs)
    return made


@pytest.fixture
def save(project):
    """Write a text, and the tokenizer of the model."""

    def write(text, made=None):
        (project / "model").mkdir()
        (made or tokenizer()).save(str(project / "model" / "tokenizer.json"))
        (project / "a.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        return project

    return write


def opened(project, reading=THREE):
    source, problems = open_data("text:a.txt", project, reading=reading)
    assert source is not None, problems
    return source


def problem(project, reading=THREE):
    source, problems = open_data("text:a.txt", project, reading=reading)
    assert source is None
    (one,) = problems
    return one


def test_windows_lie_side_by_side_and_a_rest_is_left_out(save):
    source = opened(save("a b c d a b c"))
    batch = source.read([0, 1])
    assert batch["input_ids"].tolist() == [[A, B, C], [D, A, B]]
    assert torch.equal(batch["labels"], batch["input_ids"])
    assert (len(source), source.labels) == (2, "labels")


@pytest.mark.parametrize(
    ("template", "windows"),
    [
        ("[BOS] $A", [[BOS, A, B], [BOS, C, D]]),
        ("$A [EOS]", [[A, B, EOS], [C, D, EOS]]),
        ("[BOS] $A [EOS]", [[BOS, A, EOS], [BOS, B, EOS], [BOS, C, EOS], [BOS, D, EOS]]),
    ],
)
def test_each_window_has_what_stands_around_a_text(save, template, windows):
    source = opened(save("a b c d", tokenizer(template)))
    assert source.read(range(len(source)))["input_ids"].tolist() == windows


def test_special_tokens_that_the_text_spells_stay_in_it(save):
    source = opened(save("a [EOS] b", tokenizer("[BOS] $A")), Reading(MODEL, 4))
    assert source.read([0])["input_ids"].tolist() == [[BOS, A, EOS, B]]


def test_limits_of_the_tokenizer_itself_do_not_count(save):
    made = tokenizer()
    made.enable_truncation(2)
    made.enable_padding(length=9)
    assert len(opened(save("a b c d a b c d c", made))) == 3


def test_the_usual_length(save):
    source = opened(save("a " * 1030), Reading(MODEL))
    assert source.read([0])["input_ids"].shape == (1, 512)
    assert len(source) == 2


def test_line_ends_are_those_of_the_file(save):
    made = Tokenizer(WordLevel({"\r": 0, "\n": 1, "a": 2, "?": 3}, unk_token="?"))
    made.pre_tokenizer = Split(Regex("."), "isolated")
    source = opened(save(b"a\r\n", made))
    assert len(source) == 1


@pytest.mark.parametrize(
    ("text", "reading", "code", "words"),
    [
        ("a b", Reading(MODEL, 3), Code.EMPTY_DATA, "has 2 tokens, and a sample takes 3"),
        ("", Reading(MODEL, 3), Code.EMPTY_DATA, "has 0 tokens"),
        (b"\xff\xfe", Reading(MODEL, 3), Code.DATA_REFERENCE, "is not UTF-8: byte 0"),
        ("a", Reading(None, 3), Code.DATA_REFERENCE, "the model is no `hf:` folder"),
        ("a", Reading("zoo:resnet20"), Code.DATA_REFERENCE, "the model is no `hf:` folder"),
        ("a", Reading("ResNet"), Code.DATA_REFERENCE, "the model is no `hf:` folder"),
        ("a", Reading("hf:other"), Code.DATA_REFERENCE, "`other` has no `tokenizer.json`"),
    ],
)
def test_what_makes_no_samples(save, text, reading, code, words):
    found = problem(save(text), reading)
    assert found.code is code
    assert words in found.message
    assert found.help


@pytest.mark.parametrize("unknown", ["[UNK]", None])
def test_only_the_text_is_asked_what_stands_around_it(save, unknown):
    """A tokenizer need not know any other word."""
    words = {"[BOS]": 0, "[EOS]": 1, "[UNK]": 2, "b": 3}
    made = Tokenizer(WordLevel(words, unk_token=unknown))
    made.pre_tokenizer = WhitespaceSplit()
    made.add_special_tokens(["[BOS]"])
    made.post_processor = TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 0)])
    assert opened(save("b b b b", made)).read([0])["input_ids"].tolist() == [[0, 3, 3]]


def test_a_tokenizer_that_fails_is_no_fault_of_ours(save):
    made = Tokenizer(WordLevel({"b": 0}))
    found = problem(save("b c", made))
    assert found.code is Code.DATA_REFERENCE
    assert "raised an exception" in found.message


def test_special_tokens_alone_fill_no_sample(save):
    found = problem(save("a b", tokenizer("[BOS] $A [EOS]")), Reading(MODEL, 2))
    assert found.code is Code.DATA_REFERENCE
    assert found.help == "raise `seq_len`"


def test_a_missing_file_and_a_broken_tokenizer(save):
    project = save("a b c")
    (project / "model" / "tokenizer.json").write_text("{")
    assert problem(project).code is Code.DATA_REFERENCE
    (project / "a.txt").unlink()
    assert "no such file" in problem(project).message


def test_missing_extra_is_named(save, monkeypatch):
    project = save("a b c")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert "qcompile[hf]" in (problem(project).help or "")


# ---- seq_len of other data --------------------------------------------------------------------


def test_ids_masks_and_labels_of_each_token_are_cut_and_nothing_else(project):
    ids = torch.arange(12).reshape(2, 6)
    made = {"ids": ids, "mask": ids > 3, "label": torch.tensor([1, 2]), "image": torch.rand(2, 6)}
    source, problems = source_of("memory", made, project, 4)
    assert source is not None, problems
    batch = source.read([1])
    assert batch["ids"].tolist() == [[6, 7, 8, 9]]
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "ids": (1, 4), "mask": (1, 4), "label": (1,), "image": (1, 6)
    }  # fmt: skip
    (whole,) = source.batches(2)
    assert torch.equal(whole["ids"], ids[:, :4])


def test_shorter_samples_stay(project):
    source, _ = source_of("memory", torch.arange(12).reshape(2, 6), project, 9)
    assert source is not None
    assert source.read([0]).shape == (1, 6)


def test_a_length_of_images_is_refused(project):
    source, (found,) = source_of("memory", torch.rand(2, 3, 4, 4), project, 9)
    assert source is None
    assert found.code is Code.DATA_REFERENCE
    assert found.help == "leave `seq_len` out"

"""Which tokenizers GGUF has a name for, and what of them is written."""

import json

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from qcompile.interop.gguf_tokenizer import tokenizer_fields

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)


def split(pattern):
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), whole])


DIGITS = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTES])
WORDS = {"a": 0, "b": 1, "ab": 2, "Ġ": 3}
ROWS = 8


END = {"tokenizer_config.json": b'{"eos_token": "<|end|>"}'}


def described(splitting, *, files=END, change=None, **model):
    pairs = models.BPE(vocab=WORDS, merges=[("a", "b")], **model)
    made = Tokenizer(pairs)
    made.pre_tokenizer = splitting
    made.add_special_tokens(["<|end|>"])
    made.add_tokens(["word"])
    if change is not None:
        change(made)
    return {"tokenizer.json": made.to_str().encode(), **files}


@pytest.mark.parametrize(
    ("splitting", "name", "model"),
    [
        (BYTES, "gpt-2", {}),
        (DIGITS, "smollm", {}),
        (split(LLAMA3), "llama-bpe", {"ignore_merges": True}),
        (split(QWEN2), "qwen2", {}),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_rules_of_splitting_have_the_names_of_llama_cpp(splitting, name, model):
    found = tokenizer_fields(described(splitting, **model), ROWS)
    assert found["tokenizer.ggml.model"] == "gpt2"
    assert found["tokenizer.ggml.pre"] == name


def test_every_row_of_the_table_has_a_token():
    found = tokenizer_fields(described(BYTES), ROWS)
    names = ("a", "b", "ab", "Ġ", "<|end|>", "word", "[PAD6]", "[PAD7]")
    assert found["tokenizer.ggml.tokens"] == names
    assert found["tokenizer.ggml.token_type"] == (1, 1, 1, 1, 3, 4, 5, 5)
    assert found["tokenizer.ggml.merges"] == ("a b",)
    assert [key for key in found if key.endswith("_token_id")] == ["tokenizer.ggml.eos_token_id"]
    assert "tokenizer.chat_template" not in found


def test_settings_of_the_tokenizer_come_before_those_of_the_model():
    said = {"eos_token": {"content": "<|end|>"}, "bos_token": None, "chat_template": "{{ x }}"}
    config = {"eos_token_id": 0, "bos_token_id": [1, 2], "pad_token_id": None, "unk_token_id": 77}
    files = {
        "tokenizer_config.json": json.dumps(said).encode(),
        "config.json": json.dumps(config).encode(),
    }
    found = tokenizer_fields(described(BYTES, files=files), ROWS)
    assert found["tokenizer.ggml.eos_token_id"] == 4
    assert found["tokenizer.ggml.bos_token_id"] == 1
    assert "tokenizer.ggml.padding_token_id" not in found
    assert "tokenizer.ggml.unknown_token_id" not in found
    assert found["tokenizer.chat_template"] == "{{ x }}"
    with_file = described(BYTES, files=files | {"chat_template.jinja": b"{{ y }}"})
    assert tokenizer_fields(with_file, ROWS)["tokenizer.chat_template"] == "{{ y }}"


def around(single, *tokens):
    """A change that puts ``tokens`` around each text."""

    def change(made):
        special = [(token, made.token_to_id(token)) for token in tokens]
        template = processors.TemplateProcessing(single=single, special_tokens=special)
        made.post_processor = processors.Sequence([processors.ByteLevel(), template])

    return change


def settings(**said):
    return {"tokenizer_config.json": json.dumps({"eos_token": "<|end|>"} | said).encode()}


BEGUN, ENDED = around("ab $A", "ab"), around("$A <|end|>", "<|end|>")


@pytest.mark.parametrize(
    ("change", "files", "begins", "ends"),
    [
        (None, settings(), False, False),
        (BEGUN, settings(), True, False),
        (ENDED, settings(), False, True),
        (ENDED, {}, False, True),
        (around("ab $A <|end|>", "ab", "<|end|>"), {}, True, True),
        (BEGUN, settings(add_bos_token=False), False, False),
        (None, settings(add_bos_token=True, bos_token="a"), True, False),
        (None, settings(add_eos_token=True), False, True),
    ],
)
def test_what_is_put_around_a_text(change, files, begins, ends):
    found = tokenizer_fields(described(BYTES, change=change, files=files), ROWS)
    assert found["tokenizer.ggml.add_bos_token"] is begins
    assert found["tokenizer.ggml.add_eos_token"] is ends
    assert found["tokenizer.ggml.eos_token_id"] == 4
    if change is BEGUN:
        assert found["tokenizer.ggml.bos_token_id"] == 2


OTHER = "puts other tokens around a text"


@pytest.mark.parametrize(
    ("change", "files", "why"),
    [
        (None, {}, "nothing names the token that ends a text"),
        (None, settings(add_bos_token=True), "nothing names the token that begins a text"),
        (None, {"config.json": b'{"eos_token_id": true}'}, "nothing names the token that ends"),
        (BEGUN, settings(bos_token="a"), OTHER),
        (around("ab a $A", "ab", "a"), settings(), OTHER),
        (around("$A ab", "ab"), settings(), OTHER),
        (around("$A $A"), settings(), "something around a text that GGUF has no words for"),
        (
            lambda made: setattr(
                made, "post_processor", processors.BertProcessing(("a", 0), ("b", 1))
            ),
            settings(),
            "something around a text that GGUF has no words for",
        ),
    ],
)
def test_what_cannot_be_put_around_a_text_is_told(change, files, why):
    found = tokenizer_fields(described(BYTES, change=change, files=files), ROWS)
    assert isinstance(found, str)
    assert why in found


def edited(**changes):
    """``tokenizer.json`` with other values, by the path to each."""
    document = json.loads(described(BYTES)["tokenizer.json"])
    for path, value in changes.items():
        *outer, last = path.split("__")
        place = document
        for key in outer:
            place = place[int(key) if key.isdigit() else key]
        place[last] = value
    return {"tokenizer.json": json.dumps(document).encode(), **END}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"added_tokens__0__id": -1000}, "`added_tokens.0.id`: input should be greater"),
        ({"model__vocab": {"a": -1}}, "`model.vocab.a`: input should be greater"),
        ({"model__vocab": {"a": 0, "b": 0}}, "two tokens of one number"),
        ({"model__vocab": {"a": 0, "<|end|>": 1}}, "two tokens of one number, or of one name"),
        ({"added_tokens__0__lstrip": True}, "depend on what stands around them"),
        ({"added_tokens__1__single_word": True}, "depend on what stands around them"),
        ({"model__end_of_word_suffix": "</w>"}, "depend on what stands around them"),
        ({"model__dropout": 0.5}, "depend on what stands around them"),
    ],
)
def test_tokens_that_are_not_plain_are_told(changes, why):
    found = tokenizer_fields(edited(**changes), ROWS)
    assert isinstance(found, str)
    assert why in found


def test_names_of_rows_that_no_token_has_are_names_of_no_token():
    words = {"a": 0, "[PAD6]": 1, "[PAD7__]": 2}
    found = tokenizer_fields(edited(model__vocab=words), ROWS)
    assert len(set(found["tokenizer.ggml.tokens"])) == ROWS


def lower(made):
    made.normalizer = normalizers.Lowercase()


def compose(made):
    made.normalizer = normalizers.NFC()


def test_composing_characters_is_left_to_the_text():
    assert isinstance(tokenizer_fields(described(split(QWEN2), change=compose), ROWS), dict)


OF_WORDS = Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).to_str().encode()


@pytest.mark.parametrize(
    ("description", "why"),
    [
        ({}, "the model has no `tokenizer.json`"),
        ({"tokenizer.json": b"{"}, "in `tokenizer.json`"),
        ({"tokenizer.json": OF_WORDS}, "`model.type`: input should be 'BPE'"),
        (described(pre_tokenizers.Whitespace()), "a rule that has no name in GGUF"),
        (described(None), "a rule that has no name in GGUF"),
        (described(pre_tokenizers.ByteLevel()), "a rule that has no name in GGUF"),
        (described(split(r"\s+")), "a rule that has no name in GGUF"),
        (described(DIGITS, byte_fallback=True), "a rule that has no name in GGUF"),
        (described(split(LLAMA3)), "splits words as `llama-bpe`, but not with its merges"),
        (described(BYTES, ignore_merges=True), "splits words as `gpt-2`, but not with its merges"),
        (described(BYTES, change=lower), "rewrites texts (Lowercase)"),
        (described(BYTES, files={"tokenizer_config.json": b"[]"}), "in `tokenizer_config.json`"),
        (described(BYTES, files={"config.json": b"nan"}), "in `config.json`"),
        (described(BYTES, files={"chat_template.jinja": b"\xff"}), "`chat_template.jinja` is no"),
    ],
)
def test_what_gguf_cannot_say_of_a_tokenizer_is_told(description, why):
    found = tokenizer_fields(description, ROWS)
    assert isinstance(found, str)
    assert why.lower() in found.lower()


def test_more_tokens_than_rows_are_no_vocabulary():
    assert (
        tokenizer_fields(described(BYTES), 5)
        == "`tokenizer.json` has more tokens than the model's 5"
    )


# ---- SentencePiece -------------------------------------------------------------------------------

SPACE = "\u2581"
ENDS = {"<unk>": 0, "<0x0A>": 1, SPACE: 2, "a": 3, "b": 4}
PIECES = ENDS | {"ab": 5, "ba": 6, "aba": 7, f"{SPACE}a": 8}
MERGES = [("a", "b"), ("b", "a"), ("ab", "a"), ("a", "ba"), (SPACE, "a")]
TORN = [("a", "b"), ("b", "a"), ("ab", "a"), (SPACE, "a"), ("a", "ba")]
"""One sum at two places of the order."""
WHOLE = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
OLD = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])


def sentence_piece(*, splitting=WHOLE, rewriting=None, merges=MERGES, **model):
    options = {"byte_fallback": True, "unk_token": "<unk>"} | model
    made = Tokenizer(models.BPE(vocab=PIECES, merges=merges, **options))
    if splitting is not None:
        made.pre_tokenizer = splitting
    if rewriting is not None:
        made.normalizer = rewriting
    made.add_special_tokens(["<unk>", "</s>"])
    return {"tokenizer.json": made.to_str().encode(), **settings(eos_token="</s>")}


def test_pieces_have_scores_in_the_order_of_their_merges():
    found = tokenizer_fields(sentence_piece(), 11)
    assert found["tokenizer.ggml.model"] == "llama"
    assert found["tokenizer.ggml.token_type"] == (2, 6, 1, 1, 1, 1, 1, 1, 1, 3, 5)
    scores = found["tokenizer.ggml.scores"]
    assert scores[5:9] == (0.0, -1.0, -2.0, -3.0)
    assert set(scores[:5] + scores[9:]) == {-1e9}
    assert "tokenizer.ggml.merges" not in found


@pytest.mark.parametrize(
    ("given", "adds"),
    [
        ({}, True),
        ({"splitting": pre_tokenizers.Metaspace(prepend_scheme="never", split=False)}, False),
        ({"splitting": None, "rewriting": OLD}, True),
        ({"splitting": None, "rewriting": normalizers.Replace(" ", SPACE)}, False),
    ],
)
def test_a_space_in_front_of_a_text(given, adds):
    found = tokenizer_fields(sentence_piece(**given), 11)
    assert found["tokenizer.ggml.add_space_prefix"] is adds


ORDER = "does not merge its pairs in the order of their sums"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"byte_fallback": False}, "without its bytes"),
        ({"ignore_merges": True}, "without its bytes"),
        ({"merges": MERGES[:-1]}, ORDER),
        ({"merges": TORN}, ORDER),
        ({"splitting": pre_tokenizers.Metaspace()}, "no name in GGUF"),
        ({"rewriting": normalizers.Lowercase()}, "no name in GGUF"),
        ({"splitting": None, "rewriting": normalizers.Lowercase()}, "no name in GGUF"),
    ],
)
def test_what_gguf_cannot_say_of_pieces_is_told(given, why):
    found = tokenizer_fields(sentence_piece(**given), 11)
    assert isinstance(found, str)
    assert why in found

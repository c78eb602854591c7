"""A ``tokenizer.json`` as GGUF has it: byte-level pair encoding, whose splitting llama.cpp knows.

GGUF names the rule by which a text is split before pairs are merged (``tokenizer.ggml.pre``), so
only rules with a name there can be told.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from qcompile.interop.gguf_file import Value

TOKENIZER, SETTINGS, CONFIG, TEMPLATE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "config.json",
    "chat_template.jinja",
)
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Types of tokens."""
SPECIAL = ("bos", "eos", "unk", "pad")
_GGUF_NAMES: Mapping[str, str] = MappingProxyType(
    {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
)

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTES = ("ByteLevel", "words")
"""Bytes as characters, words split off in front of their space (GPT-2)."""
PLAIN_BYTES = ("ByteLevel", "whole")

RULES: Mapping[tuple[tuple[str, str], ...], str] = MappingProxyType(
    {
        (BYTES,): "gpt-2",
        (("Digits", "each"), BYTES): "smollm",
        (("Split", _WORDS + r"\p{N}{1,3}" + _REST), PLAIN_BYTES): "llama-bpe",
        (("Split", _WORDS + r"\p{N}" + _REST), PLAIN_BYTES): "qwen2",
    }
)
MERGES_IGNORED = "llama-bpe"
"""Where a whole word that is a token is one, whatever its merges say."""


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Pattern(_Read):
    Regex: str = ""


class _Step(_Read):
    type: str
    pretokenizers: tuple["_Step", ...] = ()
    pattern: _Pattern = _Pattern()
    behavior: str = "Isolated"
    invert: bool = False
    individual_digits: bool = False
    add_prefix_space: bool = False
    use_regex: bool = True

    @property
    def rule(self) -> tuple[str, str]:
        match self.type:
            case "ByteLevel" if not self.add_prefix_space:
                return BYTES if self.use_regex else PLAIN_BYTES
            case "Digits" if self.individual_digits:
                return ("Digits", "each")
            case "Split" if self.behavior == "Isolated" and not self.invert:
                return ("Split", self.pattern.Regex)
            case _:
                return (self.type, "")


class _Added(_Read):
    id: int
    content: str
    special: bool = False


class _Pairs(_Read):
    type: Literal["BPE"]
    vocab: dict[str, int]
    merges: tuple[str | tuple[str, str], ...]
    byte_fallback: bool = False
    ignore_merges: bool = False


class _Normalizer(_Read):
    type: str


class _Piece(_Read):
    SpecialToken: dict[str, JsonValue] | None = None


class _Processor(_Read):
    type: str
    single: tuple[_Piece, ...] = ()
    processors: tuple["_Processor", ...] = ()

    @property
    def begins_with_a_token(self) -> bool:
        own = bool(self.single) and self.single[0].SpecialToken is not None
        return own or any(inner.begins_with_a_token for inner in self.processors)


class _Tokenizer(_Read):
    model: _Pairs
    added_tokens: tuple[_Added, ...] = ()
    normalizer: _Normalizer | None = None
    pre_tokenizer: _Step | None = None
    post_processor: _Processor | None = None

    @property
    def rule(self) -> str | None:
        step = self.pre_tokenizer
        if step is None:
            return None
        steps = step.pretokenizers if step.type == "Sequence" else (step,)
        return RULES.get(tuple(one.rule for one in steps))


_SETTINGS = TypeAdapter(dict[str, JsonValue])


@dataclass(frozen=True, slots=True)
class Described:
    """Files that came with the model, read."""

    tokenizer: _Tokenizer
    settings: Mapping[str, JsonValue]
    config: Mapping[str, JsonValue]
    template: str | None


def tokenizer_fields(description: Mapping[str, bytes], rows: int) -> dict[str, Value] | str:
    """Metadata of a vocabulary of ``rows`` tokens; a string says why it cannot be told."""
    found = _described(description)
    if isinstance(found, str):
        return found
    tokenizer, rule = found.tokenizer, found.tokenizer.rule
    if tokenizer.model.byte_fallback or rule is None:
        return f"`{TOKENIZER}` splits words by a rule that has no name in GGUF"
    if tokenizer.model.ignore_merges != (rule == MERGES_IGNORED):
        return f"`{TOKENIZER}` splits words as `{rule}`, but not with its merges"
    if tokenizer.normalizer is not None and tokenizer.normalizer.type != "NFC":
        return f"`{TOKENIZER}` rewrites texts ({tokenizer.normalizer.type})"
    ids = tokenizer.model.vocab | {added.content: added.id for added in tokenizer.added_tokens}
    if max(ids.values(), default=0) >= rows:
        return f"`{TOKENIZER}` has more tokens than the model's {rows}"
    tokens, types = _tokens(tokenizer, rows)
    merges = (m if isinstance(m, str) else " ".join(m) for m in tokenizer.model.merges)
    special = _special(found, ids)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": rule,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": tuple(merges),
        "tokenizer.ggml.add_bos_token": _begins(found),
        **{f"tokenizer.ggml.{_GGUF_NAMES[name]}_token_id": place for name, place in special},
        **({} if found.template is None else {"tokenizer.chat_template": found.template}),
    }


def _described(description: Mapping[str, bytes]) -> Described | str:
    if TOKENIZER not in description:
        return f"the model has no `{TOKENIZER}`"
    name = TOKENIZER
    try:
        tokenizer = _Tokenizer.model_validate_json(description[TOKENIZER])
        name = SETTINGS
        settings = _SETTINGS.validate_json(description.get(SETTINGS, b"{}"))
        name = CONFIG
        config = _SETTINGS.validate_json(description.get(CONFIG, b"{}"))
        name = TEMPLATE
        text = description[TEMPLATE].decode("utf-8") if TEMPLATE in description else None
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "it"
        return f"in `{name}`, `{place}`: {problem['msg'].lower()}"
    except UnicodeDecodeError:
        return f"`{name}` is no text"
    template = settings.get("chat_template")
    return Described(
        tokenizer, settings, config, template if isinstance(template, str) and not text else text
    )


def _tokens(tokenizer: _Tokenizer, rows: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Numbers that no token has are filled up, so that each row of the table has a name."""
    tokens = [f"[PAD{place}]" for place in range(rows)]
    types = [UNUSED] * rows
    for token, place in tokenizer.model.vocab.items():
        tokens[place], types[place] = token, NORMAL
    for added in tokenizer.added_tokens:
        tokens[added.id] = added.content
        types[added.id] = CONTROL if added.special else USER_DEFINED
    return tuple(tokens), tuple(types)


def _special(found: Described, ids: Mapping[str, int]) -> list[tuple[str, int]]:
    """The tokenizer's settings come first, then the model's."""
    places: list[tuple[str, int]] = []
    for name in SPECIAL:
        token = found.settings.get(f"{name}_token")
        text = token.get("content") if isinstance(token, dict) else token
        number = found.config.get(f"{name}_token_id")
        if isinstance(number, list):
            number = next(iter(number), None)
        if isinstance(text, str) and text in ids:
            places.append((name, ids[text]))
        elif isinstance(number, int) and number in ids.values():
            places.append((name, number))
    return places


def _begins(found: Described) -> bool:
    """Whether a text is begun with a token of its own."""
    said = found.settings.get("add_bos_token")
    if isinstance(said, bool):
        return said
    processor = found.tokenizer.post_processor
    return processor is not None and processor.begins_with_a_token

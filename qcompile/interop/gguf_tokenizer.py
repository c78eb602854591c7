"""A ``tokenizer.json`` as GGUF has it: byte-level pairs, or the pairs of SentencePiece.

GGUF names the rule by which a text is split before bytes are merged (``tokenizer.ggml.pre``), so
only rules with a name there can be told. Of SentencePiece it has a score for each token, the
highest first; and any two neighbours merge whose sum is a token, listed as a pair or not.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydantic import JsonValue, TypeAdapter, ValidationError

from qcompile.interop.gguf_file import Value
from qcompile.interop.tokenizer_json import Pairs, Step, TokenizerFile

TOKENIZER, SETTINGS, CONFIG, TEMPLATE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "config.json",
    "chat_template.jinja",
)
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Types of tokens."""
SPECIAL: Mapping[str, str] = MappingProxyType(
    {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
)
"""Ours, and GGUF's, of the tokens that have a part to play."""
_BYTE = re.compile("<0x[0-9A-F]{2}>")
NEVER_MERGED = -1e9
"""A score below all of those that merges have."""

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

_SETTINGS = TypeAdapter(dict[str, JsonValue])


@dataclass(frozen=True, slots=True)
class Described:
    """Files that came with the model, read."""

    tokenizer: TokenizerFile
    settings: Mapping[str, JsonValue]
    config: Mapping[str, JsonValue]
    template: str | None

    @property
    def ids(self) -> dict[str, int]:
        added = {added.content: added.id for added in self.tokenizer.added_tokens}
        return self.tokenizer.model.vocab | added


def tokenizer_fields(description: Mapping[str, bytes], rows: int) -> dict[str, Value] | str:
    """Metadata of a vocabulary of ``rows`` tokens; a string says why it cannot be told."""
    found = _described(description)
    if isinstance(found, str):
        return found
    tokenizer, ids = found.tokenizer, found.ids
    if max(ids.values(), default=0) >= rows:
        return f"`{TOKENIZER}` has more tokens than the model's {rows}"
    if len(set(ids.values())) < len(ids) or not tokenizer.model.vocab.items() <= ids.items():
        return f"`{TOKENIZER}` has two tokens of one number, or of one name"
    if not tokenizer.model.is_plain or not all(one.is_plain for one in tokenizer.added_tokens):
        return f"`{TOKENIZER}` has tokens that depend on what stands around them"
    tokens, types = _tokens(tokenizer, ids, rows)
    is_bytes = tokenizer.first_space is None
    merging = _of_bytes(tokenizer) if is_bytes else _of_pieces(tokenizer, tokens, types)
    if isinstance(merging, str):
        return merging
    parts = _parts(found, ids)
    if isinstance(parts, str):
        return parts
    return {
        **merging,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        **parts,
        **({} if found.template is None else {"tokenizer.chat_template": found.template}),
    }


def _described(description: Mapping[str, bytes]) -> Described | str:
    if TOKENIZER not in description:
        return f"the model has no `{TOKENIZER}`"
    name = TOKENIZER
    try:
        tokenizer = TokenizerFile.model_validate_json(description[TOKENIZER])
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
    if text is None and isinstance(template, str):
        text = template
    return Described(tokenizer, settings, config, text)


def _tokens(
    tokenizer: TokenizerFile, ids: Mapping[str, int], rows: int
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Numbers that no token has are filled up, so that each row of the table has its own name."""
    longest = "_" * max((len(token) for token in ids if token.startswith("[PAD")), default=0)
    tokens = [f"[PAD{place}{longest}]" for place in range(rows)]
    types = [UNUSED] * rows
    has_bytes = tokenizer.model.byte_fallback
    for token, place in tokenizer.model.vocab.items():
        is_byte = has_bytes and _BYTE.fullmatch(token)
        tokens[place], types[place] = token, BYTE if is_byte else NORMAL
    for added in tokenizer.added_tokens:
        tokens[added.id] = added.content
        types[added.id] = CONTROL if added.special else USER_DEFINED
    unknown = tokenizer.model.vocab.get(tokenizer.model.unk_token or "")
    if unknown is not None:
        types[unknown] = UNKNOWN
    return tuple(tokens), tuple(types)


# ---- bytes --------------------------------------------------------------------------------------


def _of_bytes(tokenizer: TokenizerFile) -> dict[str, Value] | str:
    model = tokenizer.model
    rule = RULES.get(tuple(_rule(step) for step in tokenizer.steps))
    if model.byte_fallback or rule is None:
        return f"`{TOKENIZER}` splits words by a rule that has no name in GGUF"
    if model.ignore_merges != (rule == MERGES_IGNORED):
        return f"`{TOKENIZER}` splits words as `{rule}`, but not with its merges"
    rewriting = next((one for one in tokenizer.rewrites if one.type != "NFC"), None)
    if rewriting is not None:
        return f"`{TOKENIZER}` rewrites texts ({rewriting.type})"
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": rule,
        "tokenizer.ggml.merges": tuple(" ".join(pair) for pair in model.pairs),
    }


def _rule(step: Step) -> tuple[str, str]:
    match step.type:
        case "ByteLevel" if not step.add_prefix_space:
            return BYTES if step.use_regex else PLAIN_BYTES
        case "Digits" if step.individual_digits:
            return ("Digits", "each")
        case "Split" if step.behavior == "Isolated" and not step.invert:
            return ("Split", step.pattern.Regex)
        case _:
            return (step.type, "")


# ---- SentencePiece ------------------------------------------------------------------------------


def _of_pieces(
    tokenizer: TokenizerFile, tokens: tuple[str, ...], types: tuple[int, ...]
) -> dict[str, Value] | str:
    model = tokenizer.model
    if not model.byte_fallback or model.ignore_merges:
        return f"`{TOKENIZER}` has the spaces of SentencePiece without its bytes"
    scores = _scores(model)
    whole = {token for token, kind in zip(tokens, types, strict=True) if kind == NORMAL}
    if scores is None or not _merges_all(model, whole):
        return f"`{TOKENIZER}` does not merge its pairs in the order of their sums"
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": tuple(scores.get(token, NEVER_MERGED) for token in tokens),
        "tokenizer.ggml.add_space_prefix": bool(tokenizer.first_space),
    }


def _scores(model: Pairs) -> dict[str, float] | None:
    """Falling in the order in which sums are made; ``None`` where a sum has no one place there."""
    scores: dict[str, float] = {}
    last = ""
    for first, second in model.pairs:
        token = first + second
        if token != last and token in scores:
            return None
        scores.setdefault(token, -float(len(scores)))
        last = token
    return scores


def _merges_all(model: Pairs, whole: set[str]) -> bool:
    """Every two tokens that make one are a pair."""
    pairs = set(model.pairs)
    splits = ((token[:at], token[at:]) for token in whole for at in range(1, len(token)))
    return all(
        pair in pairs for pair in splits if pair[0] in model.vocab and pair[1] in model.vocab
    )


# ---- tokens with a part to play -----------------------------------------------------------------


def _parts(found: Described, ids: Mapping[str, int]) -> dict[str, Value] | str:
    """The tokens that begin and end texts, and whether they are put there."""
    around = found.tokenizer.around
    if around is None:
        return f"`{TOKENIZER}` puts something around a text that GGUF has no words for"
    places = _special(found, ids)
    adds: dict[str, Value] = {}
    for name, tokens in zip(("bos", "eos"), around, strict=True):
        found_there = [ids.get(token) for token in tokens]
        if found_there and found_there != [places.setdefault(name, found_there[0] or 0)]:
            return f"`{TOKENIZER}` puts other tokens around a text than those that begin and end it"
        said = found.settings.get(f"add_{name}_token")
        is_added = said if isinstance(said, bool) else bool(tokens)
        if name not in places and (is_added or name == "eos"):
            return f"nothing names the token that {'begins' if name == 'bos' else 'ends'} a text"
        adds[f"tokenizer.ggml.add_{name}_token"] = is_added
    return adds | {f"tokenizer.ggml.{SPECIAL[name]}_token_id": at for name, at in places.items()}


def _special(found: Described, ids: Mapping[str, int]) -> dict[str, int]:
    """The tokenizer's settings come first, then the model's."""
    places: dict[str, int] = {}
    for name in SPECIAL:
        token = found.settings.get(f"{name}_token")
        text = token.get("content") if isinstance(token, dict) else token
        number = found.config.get(f"{name}_token_id")
        if isinstance(number, list):
            number = next(iter(number), None)
        if isinstance(text, str) and text in ids:
            places[name] = ids[text]
        elif type(number) is int and number in ids.values():
            places[name] = number
    return places

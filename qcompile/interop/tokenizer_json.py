"""What is read of a ``tokenizer.json``, the file of the package ``tokenizers``: pair encodings."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

SPACE = "\u2581"
"""What SentencePiece writes for a space."""


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Pattern(_Read):
    Regex: str = ""
    String: str = ""


class Step(_Read):
    """One way to split a text, or several in turn."""

    type: str
    pretokenizers: tuple["Step", ...] = ()
    pattern: _Pattern = _Pattern()
    behavior: str = "Isolated"
    invert: bool = False
    individual_digits: bool = False
    add_prefix_space: bool = False
    use_regex: bool = True
    replacement: str = ""
    prepend_scheme: str = "always"
    split: bool = True


class _Rewriting(_Read):
    """One way to rewrite a text, or several in turn."""

    type: str
    normalizers: tuple["_Rewriting", ...] = ()
    prepend: str = ""
    pattern: _Pattern = _Pattern()
    content: str = ""

    @property
    def adds_a_space(self) -> bool:
        return (self.type, self.prepend) == ("Prepend", SPACE)

    @property
    def marks_spaces(self) -> bool:
        return (self.type, self.pattern.String, self.content) == ("Replace", " ", SPACE)


class Added(_Read):
    id: int
    content: str
    special: bool = False


class Pairs(_Read):
    type: Literal["BPE"]
    vocab: dict[str, int]
    merges: tuple[tuple[str, str] | str, ...]
    unk_token: str | None = None
    byte_fallback: bool = False
    ignore_merges: bool = False

    @property
    def pairs(self) -> list[tuple[str, str]]:
        apart = (one.partition(" ") if isinstance(one, str) else one for one in self.merges)
        return [(one[0], one[-1]) for one in apart]


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


class TokenizerFile(_Read):
    model: Pairs
    added_tokens: tuple[Added, ...] = ()
    normalizer: _Rewriting | None = None
    pre_tokenizer: Step | None = None
    post_processor: _Processor | None = None

    @property
    def rewrites(self) -> tuple[_Rewriting, ...]:
        one = self.normalizer
        if one is None:
            return ()
        return one.normalizers if one.type == "Sequence" else (one,)

    @property
    def steps(self) -> tuple[Step, ...]:
        one = self.pre_tokenizer
        if one is None:
            return ()
        return one.pretokenizers if one.type == "Sequence" else (one,)

    @property
    def begins_with_a_token(self) -> bool:
        return self.post_processor is not None and self.post_processor.begins_with_a_token

    @property
    def first_space(self) -> bool | None:
        """Whether a text is begun with a space; ``None`` where spaces are not SentencePiece's."""
        if not self.rewrites and len(self.steps) == 1:
            (step,) = self.steps
            is_one = step.type == "Metaspace" and step.replacement == SPACE and not step.split
            return step.prepend_scheme != "never" if is_one else None
        if self.steps or not self.rewrites or not self.rewrites[-1].marks_spaces:
            return None
        before = self.rewrites[:-1]
        return bool(before) if all(one.adds_a_space for one in before) else None

"""What is read of a ``tokenizer.json``, the file of the package ``tokenizers``: pair encodings."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

SPACE = "\u2581"
"""What SentencePiece writes for a space."""


Place: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 31)]
"""Number of a token."""


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
    id: Place
    content: str
    special: bool = False
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False

    @property
    def is_plain(self) -> bool:
        """Found wherever it stands, and nothing around it belongs to it."""
        return not (self.single_word or self.lstrip or self.rstrip)


class Pairs(_Read):
    type: Literal["BPE"]
    vocab: dict[str, Place]
    merges: tuple[tuple[str, str] | str, ...]
    unk_token: str | None = None
    byte_fallback: bool = False
    ignore_merges: bool = False
    dropout: float | None = None
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None

    @property
    def is_plain(self) -> bool:
        """Pieces are as they stand in the text, and always the same."""
        return not (self.dropout or self.continuing_subword_prefix or self.end_of_word_suffix)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        apart = (one.partition(" ") if isinstance(one, str) else one for one in self.merges)
        return [(one[0], one[-1]) for one in apart]


class _Named(_Read):
    id: str = ""


class _Piece(_Read):
    SpecialToken: _Named | None = None


class Processor(_Read):
    """What is put around the tokens of a text, or several such in turn."""

    type: str
    single: tuple[_Piece, ...] = ()
    processors: tuple["Processor", ...] = ()


class TokenizerFile(_Read):
    model: Pairs
    added_tokens: tuple[Added, ...] = ()
    normalizer: _Rewriting | None = None
    pre_tokenizer: Step | None = None
    post_processor: Processor | None = None

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
    def around(self) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Tokens before and behind those of a text; ``None``: put there in another way."""
        one = self.post_processor
        if one is None:
            return (), ()
        parts = one.processors if one.type == "Sequence" else (one,)
        templates = [part for part in parts if part.type != "ByteLevel"]  # of offsets alone
        if not templates:
            return (), ()
        if len(templates) > 1 or templates[0].type != "TemplateProcessing":
            return None
        pieces = [piece.SpecialToken and piece.SpecialToken.id for piece in templates[0].single]
        if pieces.count(None) != 1:
            return None
        text = pieces.index(None)
        before, behind = pieces[:text], pieces[text + 1 :]
        return tuple(one for one in before if one), tuple(one for one in behind if one)

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

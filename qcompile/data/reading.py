"""How files become what a model takes, as far as a recipe says it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    model: str | None = None
    """Its reference: a ``hf:`` folder has the tokenizer that reads ``text:`` data."""
    length: int | None = None
    """``seq_len``: the most token ids of a sample; ``None``: as many as it has."""

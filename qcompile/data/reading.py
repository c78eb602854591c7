"""How files become what a model takes, as far as a recipe says it."""

from dataclasses import dataclass

from qcompile.policy.images import Images


@dataclass(frozen=True, slots=True)
class Reading:
    model: str | None = None
    """Its reference: a ``hf:`` folder has the tokenizer that reads ``text:`` data, and says what
    pictures go through."""
    length: int | None = None
    """``seq_len``: the most token ids of a sample; ``None``: as many as it has."""
    images: Images | None = None
    """What pictures go through; ``None``: what the model's folder says."""

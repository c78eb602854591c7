"""What a value's fields may hold, said once for everyone who makes it.

The recipe's text is checked before, with a span; this is for Python and for plans read from disk,
where pydantic turns the ``ValueError`` into its own.
"""


def refuse_illegal(**legal: bool) -> None:
    """``field=condition``: a ``ValueError`` names the fields whose condition is false."""
    wrong = [f"`{name}`" for name, is_legal in legal.items() if not is_legal]
    if wrong:
        raise ValueError(f"{' and '.join(wrong)} out of range")

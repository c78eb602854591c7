"""Bounds on one recipe, so that hostile or generated text is refused before it costs anything."""

MAX_FILE_BYTES = 1 << 20
MAX_JSON_BYTES = 16 << 20
"""Of a recipe as JSON, which says the same at more length."""
MAX_RULES = 10_000
MAX_TOKENS = 200_000
"""Words, literals and marks: what the time to parse depends on, about 60 microseconds each."""

MAX_NESTING = 64
"""Open brackets and braces at one place."""

MAX_OPERATORS = 128
"""Operators above one another in an expression: a chain of ``or`` is a tree as deep as it is long.

With ``MAX_NESTING`` it bounds the depth of every tree, so that visitors may recurse.
"""

MAX_STRING = 4096
MAX_REGEX = 512
MAX_NUMBER = 64
"""Characters of a string, a regular expression and a number, as they are written."""

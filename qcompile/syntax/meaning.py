"""Whether two trees say the same, wherever they say it."""

from dataclasses import fields, is_dataclass
from typing import cast

from qcompile.syntax.nodes import Comment, RecipeFile


def same_meaning(left: object, right: object) -> bool:
    """Compare everything but spans and comments."""
    waiting = [(left, right)]
    while waiting:
        one, other = waiting.pop()
        if type(one) is not type(other):
            return False
        if isinstance(one, tuple) and isinstance(other, tuple):
            ones, others = cast("tuple[object, ...]", one), cast("tuple[object, ...]", other)
            if len(ones) != len(others):
                return False
            waiting.extend(zip(ones, others, strict=True))
        elif is_dataclass(one):
            names = [f.name for f in fields(one) if f.name not in ("span", "comments")]
            waiting.extend((getattr(one, name), getattr(other, name)) for name in names)
        elif one != other:
            return False
    return True


def same_comments(left: RecipeFile, right: RecipeFile) -> bool:
    """Blanks at the end of a comment are not part of it."""
    return _texts(left.comments) == _texts(right.comments)


def _texts(comments: tuple[Comment, ...]) -> list[str]:
    return [comment.text.rstrip() for comment in comments]

"""Which dotted paths may name a module or tensor of a graph.

``torch.fx`` turns a graph into Python source, with a path that is no identifier as a quoted string,
so a path must not be able to end that string, nor hide an attribute of the module.
"""

from keyword import iskeyword
from unicodedata import normalize

from torch import fx, nn

MAX_LENGTH = 16_384

_OF_ROOT = frozenset(dir(fx.GraphModule(nn.Module(), fx.Graph())))
_OF_MODULE = frozenset(dir(nn.Module()))


def is_safe_path(path: str) -> bool:
    root, *rest = path.split(".")
    if len(path) > MAX_LENGTH or root in _OF_ROOT:
        return False
    return all(_is_safe_part(part) for part in (root, *rest)) and _OF_MODULE.isdisjoint(rest)


def _is_safe_part(part: str) -> bool:
    if part == "" or iskeyword(part) or part.startswith("__"):
        return False
    is_plain = part.isprintable() and normalize("NFKC", part) == part
    return is_plain and '"' not in part and "\\" not in part

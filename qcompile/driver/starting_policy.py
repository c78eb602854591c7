"""Which policy of a library a model starts from, by what its graph consists of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from qcompile.policy.glob import escape_glob
from qcompile.policy.site import Kind, Site
from qcompile.syntax.expression_text import quoted_text

LAYERS = (Kind.CONV, Kind.LINEAR)
ATTENTION = (Kind.ATTENTION, Kind.SOFTMAX)
GROUPS = (128, 64, 32)
"""Sizes of ``std:decoder`` that are tried, its default first."""
EIGHT_BITS = "8-bit weights and activations"


@dataclass(frozen=True, slots=True)
class Start:
    """A policy of a library, what it does, and why it was chosen."""

    library: str
    policy: str
    meaning: str
    because: str
    expects: tuple[str, ...]
    rules: tuple[str, ...] = ()
    """Lines of ``policy main`` after those of the library."""
    group: int | None = None
    """Of ``std:decoder``, where its default does not divide each layer."""


def starting_policy(sites: Sequence[Site], *, takes_words: bool) -> Start | None:
    """``None``: the model has no layer that a library quantizes.

    ``takes_words``: what comes in are integers, to be looked up in a table.
    """
    layers = [site for site in sites if site.kind in LAYERS and site.weight]
    linears = [site for site in layers if site.kind is Kind.LINEAR]
    if takes_words and linears:
        if _scores_words(sites, linears):
            return _of_decoder(linears)
        return _of_layers("encoder", "words come in, and no score for each goes out", linears)
    if not layers:
        return None
    if any(site.kind in ATTENTION for site in sites):
        return _of_layers("vit", "attention over something other than words", layers)
    if linears == layers:
        return _of_layers("cnn", "linear layers without attention", layers)
    return _of_layers("cnn", "convolutions without attention", layers)


def _of_layers(library: str, because: str, layers: Sequence[Site]) -> Start:
    expects = (f'none({library}.layers and float), "no layer is forgotten"',)
    ends = {end.operands: end for end in (layers[0], layers[-1])}
    if all(site.depthwise or site.operands in ends for site in layers):
        return Start(library, "all_w8a8", EIGHT_BITS, because, expects)
    rules = [f"use {library}.w8a8 for {paths}" for paths in _beside(ends, layers)]
    if any(site.depthwise for site in layers):
        rules.append(f"use {library}.w8a8 for depthwise")
    expects += (f'bits({library}.ends) == 8, "first and last layer keep 8 bits"',)
    meaning = "4-bit weights, 8-bit activations; first and last layer keep 8 bits"
    return Start(library, "mixed_w4a8", meaning, because, expects, tuple(rules))


def _beside(ends: Mapping[tuple[str, ...], Site], layers: Sequence[Site]) -> Iterator[str]:
    """Layers that read what one of the ends reads: projections of one input go together."""
    for operands, end in ends.items():
        paths = [site.path for site in layers if site.operands == operands and site != end]
        if paths:
            yield " or ".join(quoted_text(escape_glob(path)) for path in paths)


def _of_decoder(linears: Sequence[Site]) -> Start:
    because = "words come in, and a score for each goes out"
    expects = ('none(decoder.body and float), "no projection is forgotten"',)
    *body, head = linears
    rules = () if head.shared else ("use decoder.w8 for decoder.head",)
    widths = [site.in_features or 0 for site in body]
    group = next((size for size in GROUPS if not any(width % size for width in widths)), None)
    if group is None:
        return Start("decoder", "all_w8a8", EIGHT_BITS, because, expects, rules)
    meaning = f"4-bit weights, {group} to a scale; activations stay in float"
    own = None if group == GROUPS[0] else group
    return Start("decoder", "w4", meaning, because, expects, rules, own)


def _scores_words(sites: Sequence[Site], linears: Sequence[Site]) -> bool:
    """Whether the last projection has a row for each row of a table."""
    tables = {s.weight.shape[0] for s in sites if s.kind is Kind.EMBEDDING and s.weight}
    return len(linears) > 1 and linears[-1].out_features in tables

"""Small models by name, each with the scale classes that one would write down by hand.

A class is a set of names of graph nodes; layers are called by their letter.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Layers(nn.Module):
    """Linear layers ``a`` to ``h`` of width 8, and a program that uses them."""

    def __init__(self, program: "Program") -> None:
        super().__init__()
        for letter in "abcdefgh":
            self.add_module(letter, nn.Linear(8, 8))
        self.cls = nn.Parameter(torch.zeros(1, 1, 8))
        self.position = nn.Parameter(torch.zeros(4, 8))
        self.program = program

    def forward(self, x: Tensor) -> Tensor:
        return self.program(self, x)


Program = Callable[[Layers, Tensor], Tensor]


@dataclass(frozen=True)
class Named:
    name: str
    program: Program
    classes: tuple[str, ...]
    """Names of the values, separated by blanks, of each class."""


def add_in_place(m: Layers, x: Tensor) -> Tensor:
    y = m.a(x)
    y += m.b(x)
    return m.c(y)


def two_sums_of_one_value(m: Layers, x: Tensor) -> Tensor:
    shared = m.a(x)
    return m.d(shared + m.b(x)) * m.e(shared + m.c(x))


def split_concat(m: Layers, x: Tensor) -> Tensor:
    first, second = m.a(x).split(4, -1)
    return torch.cat([second, first], -1)


def halves_added(m: Layers, x: Tensor) -> Tensor:
    first, second = m.a(x).chunk(2, -1)
    return first + second


def skip_over_a_block(m: Layers, x: Tensor) -> Tensor:
    before = m.a(x)
    return before + m.c(torch.relu(m.b(before)))


def residual_stream(m: Layers, x: Tensor) -> Tensor:
    first = m.a(x)
    second = first + m.b(first)
    return second + m.c(second)


def long_skips(m: Layers, x: Tensor) -> Tensor:
    first = m.a(x)
    second = first + m.b(first)
    return first + m.c(second)


def reused_layer(m: Layers, x: Tensor) -> Tensor:
    return m.a(x) + m.a(torch.relu(x))


def dense_block(m: Layers, x: Tensor) -> Tensor:
    first = m.a(x)
    second = torch.cat([first, m.b(first)], 1)
    return torch.cat([second, m.c(second)], 1)


def attention(m: Layers, x: Tensor) -> Tensor:
    before = m.a(x)
    scores = m.b(before) @ m.c(before).transpose(-2, -1)
    return before + m.e(torch.softmax(scores, -1) @ m.d(before))


def gated_mlp(m: Layers, x: Tensor) -> Tensor:
    before = m.a(x)
    return before + m.d(F.silu(m.b(before)) * m.c(before))


def transformer_layer(m: Layers, x: Tensor) -> Tensor:
    first = attention(m, x)
    return first + m.g(F.gelu(m.f(first)))


def encoder_decoder(m: Layers, x: Tensor) -> Tensor:
    """Cross attention over the states of an encoder, and a sum on either side."""
    states = m.a(x) + m.b(x)
    query = m.c(x)
    mixed = torch.softmax(query @ m.d(states).transpose(-2, -1), -1) @ m.e(states)
    return query + m.f(mixed)


def u_net(m: Layers, x: Tensor) -> Tensor:
    fine = m.a(x)
    coarse = m.b(F.max_pool1d(fine, 2).repeat(1, 1, 2))
    return torch.cat([F.interpolate(coarse, scale_factor=1.0, mode="nearest"), fine], 1)


def branches_of_inception(m: Layers, x: Tensor) -> Tensor:
    before = m.a(x)
    pooled = F.max_pool1d(before, 3, 1, 1)
    return torch.cat([m.b(before), m.c(before), pooled], 1)


def squeeze_excite(m: Layers, x: Tensor) -> Tensor:
    before = m.a(x)
    return before * torch.sigmoid(m.b(before.mean(1, keepdim=True)))


def written_slice(m: Layers, x: Tensor) -> Tensor:
    y = m.a(x)
    y[:, :1] = m.b(x)[:, :1]
    return m.c(y)


def top_values(m: Layers, x: Tensor) -> Tensor:
    return m.a(x).max(1).values + m.b(x).amax(1)


GRAPHS = (
    Named("one add", lambda m, x: m.a(x) + m.b(x), ("a b",)),
    Named("one subtraction", lambda m, x: m.a(x) - m.b(x), ("a b",)),
    Named("adds in series", lambda m, x: m.a(x) + m.b(x) + m.c(x), ("a b", "add c")),
    Named(
        "add of adds",
        lambda m, x: (m.a(x) + m.b(x)) + (m.c(x) + m.d(x)),
        ("a b", "c d", "add add_1"),
    ),
    Named("two sums of one value", two_sums_of_one_value, ("a b c",)),
    Named("a value and itself", lambda m, x: (y := m.a(x)) + y, ()),
    Named("a constant", lambda m, x: m.a(x) + 1, ()),
    Named("a parameter", lambda m, x: m.a(x) + m.position, ()),
    Named("twice the second operand", lambda m, x: torch.add(m.a(x), m.b(x), alpha=2), ()),
    Named("in place", add_in_place, ("a b",)),
    Named("concat", lambda m, x: torch.cat([m.a(x), m.b(x)]), ("a b cat",)),
    Named(
        "concat by another name",
        lambda m, x: torch.concat((m.a(x), m.b(x)), dim=1),
        ("a b concat",),
    ),
    Named(
        "concat of concat",
        lambda m, x: torch.cat([torch.cat([m.a(x), m.b(x)]), m.c(x)]),
        ("a b cat c cat_1",),
    ),
    Named("split and concat", split_concat, ("a getitem getitem_1 cat",)),
    Named("halves added", halves_added, ("a getitem getitem_1",)),
    Named("stack", lambda m, x: torch.stack([m.a(x), m.b(x)]), ("a b stack",)),
    Named("where", lambda m, x: torch.where(x > 0, m.a(x), m.b(x)), ("a b where",)),
    Named("maximum", lambda m, x: torch.maximum(m.a(x), m.b(x)), ("a b maximum",)),
    Named("product", lambda m, x: m.a(x) * m.b(x), ()),
    Named(
        "reshapes before an add",
        lambda m, x: m.a(x).reshape(-1, 32) + m.b(x).flatten(1),
        ("a reshape b flatten",),
    ),
    Named(
        "transposes before a concat",
        lambda m, x: torch.cat([m.a(x).transpose(1, 2), m.b(x).mT], 1),
        ("a transpose b getattr_1 cat",),
    ),
    Named(
        "slices before an add",
        lambda m, x: m.a(x)[:, :2] + m.b(x)[:, 2:],
        ("a getitem b getitem_1",),
    ),
    Named("reshapes without a join", lambda m, x: m.b(m.a(x).transpose(1, 2).transpose(1, 2)), ()),
    Named("a rectifier starts anew", lambda m, x: torch.relu(m.a(x)) + m.b(x), ("relu b",)),
    Named(
        "maximum pooling passes on",
        lambda m, x: F.max_pool1d(m.a(x), 2) + F.max_pool1d(m.b(x), 2),
        ("a max_pool1d b max_pool1d_1",),
    ),
    Named(
        "a mean starts anew",
        lambda m, x: F.avg_pool1d(m.a(x), 2) + F.max_pool1d(m.b(x), 2),
        ("avg_pool1d b max_pool1d",),
    ),
    Named("the largest values", top_values, ("a getitem b amax",)),
    Named(
        "padding with zeros passes on",
        lambda m, x: torch.cat([F.pad(m.a(x), (0, 1)), F.pad(m.b(x), (1, 0))]),
        ("a pad b pad_1 cat",),
    ),
    Named(
        "padding with ones starts anew",
        lambda m, x: torch.cat([F.pad(m.a(x), (0, 1), value=1.0), F.pad(m.b(x), (1, 0))]),
        ("pad b pad_1 cat",),
    ),
    Named(
        "a class token",
        lambda m, x: torch.cat([m.cls.expand(2, -1, -1), m.a(x)], 1),
        ("a expand cat",),
    ),
    Named("skip over a block", skip_over_a_block, ("a c",)),
    Named("residual stream", residual_stream, ("a b", "add c")),
    Named("long skips", long_skips, ("a b c",)),
    Named("reused layer", reused_layer, ("a a_1",)),
    Named("dense block", dense_block, ("a b cat c cat_1",)),
    Named("attention", attention, ("a e",)),
    Named("gated MLP", gated_mlp, ("a d",)),
    Named("transformer layer", transformer_layer, ("a e", "add g")),
    Named("encoder and decoder", encoder_decoder, ("a b", "c f")),
    Named("U-net", u_net, ("a max_pool1d repeat b interpolate cat",)),
    Named("inception", branches_of_inception, ("a max_pool1d b c cat",)),
    Named("squeeze and excite", squeeze_excite, ()),
    Named("written slice", written_slice, ("a b getitem",)),
)

"""Models of the specs as tables of sites: what capture would find, without torch.

Execution order is the order of the rows. ``after`` counts back to the rows whose values a site
reads: 1 is the row above.
"""

from dataclasses import dataclass
from math import prod

from tests.specs.front_end import Kind, Parameter, Site

OPERATIONS = {
    Kind.ADD: "operator.add",
    Kind.MATMUL: "torch.matmul",
    Kind.SOFTMAX: "torch.nn.functional.softmax",
}
MODULES = {
    Kind.CONV: "torch.nn.Conv2d",
    Kind.LINEAR: "torch.nn.Linear",
    Kind.NORM: "torch.nn.LayerNorm",
    Kind.ACTIVATION: "torch.nn.ReLU",
    Kind.EMBEDDING: "torch.nn.Embedding",
    Kind.POOL: "torch.nn.AdaptiveAvgPool2d",
}


@dataclass(frozen=True, slots=True)
class Row:
    kind: Kind
    path: str
    shape: tuple[int, ...] = ()
    """Of the weight; a convolution's is ``[out, in / groups, k, k]``."""
    after: tuple[int, ...] = (1,)
    groups: int = 1
    tied_to: str | None = None
    call: int = 0
    shared: bool = False


def sites(rows: tuple[Row, ...]) -> tuple[Site, ...]:
    depth: list[int] = []
    for index, row in enumerate(rows):
        before = [index - back for back in row.after if index - back >= 0]
        depth.append(max((depth[i] + bool(rows[i].shape) for i in before), default=0))
    return tuple(_site(index, row, depth[index]) for index, row in enumerate(rows))


def _site(index: int, row: Row, depth: int) -> Site:
    segments = row.path.split(".")
    producers = tuple(sorted(index - back for back in row.after if index - back >= 0))
    path = f"{row.path}.weight"
    weight = Parameter(path, row.shape, "float32", row.tied_to or path) if row.shape else None
    is_conv = row.kind is Kind.CONV
    has_width = row.kind in (Kind.CONV, Kind.LINEAR)
    return Site(
        index=index,
        node=f"site_{index}",
        path=row.path,
        call=row.call,
        kind=row.kind,
        op=MODULES.get(row.kind) or OPERATIONS[row.kind],
        scopes=tuple(".".join(segments[:i]) for i in range(1, len(segments))),
        weight=weight,
        bias=None,
        operands=_operands(row, producers),
        producers=producers,
        groups=row.groups if is_conv else None,
        kernel=row.shape[2:] if is_conv else None,
        stride=(1, 1) if is_conv else None,
        in_features=row.shape[1] * row.groups if has_width else None,
        out_features=row.shape[0] if has_width else None,
        params=prod(row.shape) if row.shape else 0,
        depth=depth,
        macs=prod(row.shape) if has_width else None,
        shared=row.shared or row.tied_to is not None,
    )


def _operands(row: Row, producers: tuple[int, ...]) -> tuple[str, ...]:
    """The input of the model is ``x``; an embedding reads no floating-point tensor."""
    if row.kind is Kind.EMBEDDING:
        return ()
    return tuple(f"site_{index}" for index in producers) or ("x",)


TINY_RESIDUAL = sites(
    (
        Row(Kind.CONV, "conv1", (8, 3, 3, 3)),
        Row(Kind.NORM, "bn1", (8,)),
        Row(Kind.ACTIVATION, "relu"),
        Row(Kind.CONV, "layer1.0.conv1", (8, 8, 3, 3)),
        Row(Kind.ACTIVATION, "layer1.0.relu"),
        Row(Kind.CONV, "layer1.0.conv2", (8, 1, 3, 3), groups=8),
        Row(Kind.ADD, "layer1.0.add", after=(1, 4)),
        Row(Kind.CONV, "layer1.1.conv1", (16, 8, 1, 1)),
        Row(Kind.CONV, "layer1.1.conv2", (8, 16, 1, 1)),
        Row(Kind.ADD, "layer1.1.add", after=(1, 3)),
        Row(Kind.POOL, "pool"),
        Row(Kind.LINEAR, "fc", (10, 8)),
    )
)
"""A convolution stem, two residual blocks (one convolution is depthwise), a classifier."""

TINY_DECODER = sites(
    (
        Row(Kind.EMBEDDING, "embed", (32, 16), after=(), shared=True),
        Row(Kind.NORM, "layers.0.norm", (16,)),
        Row(Kind.LINEAR, "layers.0.attn.q", (16, 16)),
        Row(Kind.LINEAR, "layers.0.attn.k", (16, 16), after=(2,)),
        Row(Kind.LINEAR, "layers.0.attn.v", (16, 16), after=(3,)),
        Row(Kind.MATMUL, "layers.0.attn.matmul", after=(2, 3)),
        Row(Kind.SOFTMAX, "layers.0.attn.softmax"),
        Row(Kind.MATMUL, "layers.0.attn.matmul_1", after=(1, 3)),
        Row(Kind.LINEAR, "layers.0.attn.out", (16, 16)),
        Row(Kind.ADD, "layers.0.add", after=(1, 9)),
        Row(Kind.LINEAR, "layers.0.mlp.up", (20, 16)),
        Row(Kind.ACTIVATION, "layers.0.mlp.act"),
        Row(Kind.LINEAR, "layers.0.mlp.down", (16, 20)),
        Row(Kind.ADD, "layers.0.add_1", after=(1, 4)),
        Row(Kind.LINEAR, "lm_head", (32, 16), tied_to="embed.weight"),
    )
)
"""One decoder layer; ``lm_head.weight`` is ``embed.weight``."""

TINY_SHARED = sites(
    (
        Row(Kind.LINEAR, "step", (8, 8), shared=True),
        Row(Kind.ACTIVATION, "act"),
        Row(Kind.LINEAR, "step", (8, 8), call=1, shared=True),
        Row(Kind.LINEAR, "head", (4, 8)),
    )
)
"""One linear layer that is called twice."""

MODELS = {
    "tiny_residual": TINY_RESIDUAL,
    "tiny_decoder": TINY_DECODER,
    "tiny_shared": TINY_SHARED,
}

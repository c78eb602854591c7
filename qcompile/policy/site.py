"""A site: one place in the traced graph that a rule can select, described without torch."""

from enum import Enum

from qcompile.diagnostics.frozen import frozen


class Kind(Enum):
    """What a site computes; the value is the word of the language."""

    CONV = "conv"
    LINEAR = "linear"
    MATMUL = "matmul"
    ATTENTION = "attention"
    EMBEDDING = "embedding"
    NORM = "norm"
    SOFTMAX = "softmax"
    ACTIVATION = "activation"
    ADD = "add"
    MUL = "mul"
    CONCAT = "concat"
    POOL = "pool"


@frozen
class Parameter:
    """A tensor of the model that a site owns.

    ``storage`` is equal for tied tensors (it is the path of the first of them).
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    storage: str


@frozen
class Site:
    """One call of one operation, in execution order.

    ``path`` is the module path for a module, or the path of the enclosing module plus the name of
    the operation (``layers.0.add``, ``layers.0.add_1`` for the second). ``call`` counts further
    calls of the same module; ``key`` is unique. Facts that do not apply are ``None``.
    """

    index: int
    node: str
    """Name of the ``torch.fx`` node."""
    path: str
    call: int
    kind: Kind
    op: str
    """``torch.nn.Conv2d``, ``torch.nn.functional.linear``, ``operator.add``, ``Tensor.matmul``."""
    scopes: tuple[str, ...]
    """Paths of the enclosing modules, outermost first, without the root and without ``path``."""
    weight: Parameter | None
    bias: Parameter | None
    operands: tuple[str, ...]
    """``torch.fx`` node names of the floating-point tensor inputs that are not parameters."""
    producers: tuple[int, ...]
    """Indices of the nearest sites upstream, over all operands, ascending."""
    groups: int | None = None
    kernel: tuple[int, ...] | None = None
    stride: tuple[int, ...] | None = None
    in_features: int | None = None
    """Width of the reduction as written by the module: ``in_channels`` for a convolution."""
    out_features: int | None = None
    params: int = 0
    depth: int = 0
    """Sites with weights on the longest path before this one."""
    macs: int | None = None
    """Multiply-accumulates for one sample of the example input; ``None`` where not a product."""
    shared: bool = False
    """Called more than once, or its weight is tied to another site's."""
    output_axis: int = 0
    """Axis of ``weight`` that counts output channels (1 for a ``[in, out]`` matrix)."""

    @property
    def key(self) -> str:
        return self.path if self.call == 0 else f"{self.path}@{self.call}"

    @property
    def depthwise(self) -> bool:
        return (
            self.kind is Kind.CONV
            and self.groups is not None
            and self.groups > 1
            and (self.groups == self.in_features)
        )

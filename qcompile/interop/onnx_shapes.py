"""Operations that move elements without computing, as ONNX nodes; sizes may be free."""

from collections.abc import Sequence
from types import EllipsisType
from typing import TypeAlias

from qcompile.interop.onnx_graph import END, OnnxGraph, Size, UnsupportedCallError, Value

Dims: TypeAlias = int | Sequence[int]
Sizes: TypeAlias = Size | Sequence[Size]
Index: TypeAlias = int | slice | EllipsisType | Value | None


def size(g: OnnxGraph, input: Value, dim: int | None = None) -> Size | tuple[Size, ...]:
    """The number where the capture knows it; otherwise read from the tensor at run time."""
    if dim is None:
        return tuple(_size(g, input, axis) for axis in range(input.rank))
    return _size(g, input, dim)


def attribute(g: OnnxGraph, input: Value, name: str) -> Size | tuple[Size, ...]:
    if name != "shape":
        raise UnsupportedCallError(f"the attribute `{name}`")
    return tuple(_size(g, input, axis) for axis in range(input.rank))


def reshape(g: OnnxGraph, input: Value, *shape: Sizes) -> str:
    """A single size that is not known becomes -1, which every runtime can fold."""
    wanted = flat(shape)
    unknown = [place for place, item in enumerate(wanted) if isinstance(item, Value)]
    if len(unknown) == 1 and -1 not in wanted:
        wanted[unknown[0]] = -1
    return g.call("Reshape", input, g.sizes(wanted), allowzero=int(0 in wanted))


def flatten(g: OnnxGraph, input: Value, start_dim: int = 0, end_dim: int = -1) -> str:
    start, end = input.axis(start_dim), input.axis(end_dim)
    if input.rank == 0:
        return g.call("Reshape", input, g.integers([1]))
    kept = [_size(g, input, axis) for axis in range(input.rank)]
    return reshape(g, input, [*kept[:start], -1, *kept[end + 1 :]])


def permute(g: OnnxGraph, input: Value, *dims: Dims) -> str:
    order = [item for dim in dims for item in ([dim] if isinstance(dim, int) else dim)]
    return g.call("Transpose", input, perm=tuple(input.axis(dim) for dim in order))


def transpose(g: OnnxGraph, input: Value, dim0: int, dim1: int) -> str:
    order = list(range(input.rank))
    first, second = input.axis(dim0), input.axis(dim1)
    order[first], order[second] = second, first
    return g.call("Transpose", input, perm=tuple(order))


def unsqueeze(g: OnnxGraph, input: Value, dim: int) -> str:
    return g.call("Unsqueeze", input, g.integers([dim % (input.rank + 1)]))


def squeeze(g: OnnxGraph, input: Value, dim: Dims) -> str:
    dims = [dim] if isinstance(dim, int) else dim
    axes = [input.axis(axis) for axis in dims]
    return g.call("Squeeze", input, g.integers([axis for axis in axes if input.size(axis) == 1]))


def expand(g: OnnxGraph, input: Value, *size: Sizes) -> str:
    """-1 keeps a size: ONNX broadcasts, and 1 does that."""
    wanted = [1 if isinstance(item, int) and item == -1 else item for item in flat(size)]
    return g.call("Expand", input, g.sizes(wanted))


def cat(g: OnnxGraph, tensors: Sequence[Value], dim: int = 0) -> str:
    return g.call("Concat", *tensors, axis=tensors[0].axis(dim))


def stack(g: OnnxGraph, tensors: Sequence[Value], dim: int = 0) -> str:
    axis = dim % (tensors[0].rank + 1)
    return g.call("Concat", *(unsqueeze(g, tensor, axis) for tensor in tensors), axis=axis)


def unbind(g: OnnxGraph, input: Value, dim: int = 0) -> tuple[str, ...]:
    axis = input.axis(dim)
    pieces = _split(g, input, [1] * input.size(axis), axis)
    return tuple(g.call("Squeeze", piece, g.integers([axis])) for piece in pieces)


def chunk(g: OnnxGraph, input: Value, chunks: int, dim: int = 0) -> tuple[str, ...]:
    axis = input.axis(dim)
    return split(g, input, -(-input.size(axis) // chunks), axis)


def split(
    g: OnnxGraph, tensor: Value, split_size_or_sections: Dims, dim: int = 0
) -> tuple[str, ...]:
    axis, wanted = tensor.axis(dim), split_size_or_sections
    if isinstance(wanted, int):
        whole = tensor.size(axis)
        wanted = [min(wanted, whole - start) for start in range(0, whole, wanted)]
    return _split(g, tensor, wanted, axis)


def getitem(g: OnnxGraph, input: object, index: object) -> object:
    if not isinstance(input, Value):
        return _element(input, index)
    indices: list[Index] = [*index] if isinstance(index, tuple) else [index]  # pyright: ignore[reportAssignmentType]
    places = [item for item in indices if isinstance(item, Value) and item.rank]
    if places and len(places) == len(indices):
        return _gathered(g, input, places)
    return _indexed(g, input, _without_ellipsis(indices, input.rank))


def select(g: OnnxGraph, input: Value, dim: int, index: int) -> str:
    axis = input.axis(dim)
    return g.call("Gather", input, g.scalar(index, "int64"), axis=axis)


def _gathered(g: OnnxGraph, input: Value, places: Sequence[Value]) -> str:
    """By tensors of positions along the first axes, broadcast against one another."""
    if any(place.dtype != "int64" for place in places):
        raise UnsupportedCallError("an index that is a mask")
    names = [place.name for place in places]
    together = names[0]
    for name in names[1:]:
        together = g.call("Add", together, name)
    shape = g.call("Shape", together)
    rank = max(place.rank for place in places)
    wide = [g.call("Expand", name, shape) for name in names]
    columns = [g.call("Unsqueeze", name, g.integers([rank])) for name in wide]
    return g.call("GatherND", input, g.call("Concat", *columns, axis=rank))


def gather(g: OnnxGraph, input: Value, dim: int, index: Value) -> str:
    return g.call("GatherElements", input, index, axis=input.axis(dim))


def _indexed(g: OnnxGraph, input: Value, indices: Sequence[Index]) -> str:
    """Slices first, on the input's own axes; then integers drop axes and ``None`` adds them."""
    starts, ends, axes, steps = _slices(indices)
    name = input.name
    if axes:
        bounds = (g.sizes(starts), g.sizes(ends), g.integers(axes), g.integers(steps))
        name = g.call("Slice", name, *bounds)
    own = [item for item in indices if item is not None]
    for axis, item in reversed(list(enumerate(own))):
        if isinstance(item, int):
            name = g.call("Gather", name, g.scalar(item, "int64"), axis=axis)
    kept = [item for item in indices if not isinstance(item, int)]
    added = [place for place, item in enumerate(kept) if item is None]
    return g.call("Unsqueeze", name, g.integers(added)) if added else name


def _slices(indices: Sequence[Index]) -> tuple[list[Size], list[Size], list[int], list[int]]:
    """Bounds may be sizes that are known at run time only, steps may not."""
    starts: list[Size] = []
    ends: list[Size] = []
    axes: list[int] = []
    steps: list[int] = []
    for axis, item in enumerate(item for item in indices if item is not None):
        if isinstance(item, int) or item == slice(None):
            continue
        if not isinstance(item, slice):
            raise UnsupportedCallError("an index that is a tensor")
        step = 1 if item.step is None else item.step
        if not isinstance(step, int):
            raise UnsupportedCallError("a slice whose step is a free size")
        starts.append(0 if item.start is None else item.start)
        ends.append(END if item.stop is None else item.stop)
        axes.append(axis)
        steps.append(step)
    return starts, ends, axes, steps


def _without_ellipsis(indices: Sequence[Index], rank: int) -> list[Index]:
    if not any(item is ... for item in indices):
        return list(indices)
    place = next(place for place, item in enumerate(indices) if item is ...)
    named = sum(item is not None and item is not ... for item in indices)
    return [*indices[:place], *[slice(None)] * (rank - named), *indices[place + 1 :]]


def _element(input: object, index: object) -> object:
    if not isinstance(input, tuple | list) or not isinstance(index, int | slice):
        raise UnsupportedCallError("an index of this kind")
    return input[index]


def _split(g: OnnxGraph, input: Value, sections: Sequence[int], axis: int) -> tuple[str, ...]:
    return g.call_many("Split", len(sections), input, g.integers(sections), axis=axis)


def _size(g: OnnxGraph, input: Value, dim: int) -> Size:
    axis = input.axis(dim)
    size = input.shape[axis]
    if isinstance(size, int):
        return size
    whole = g.call("Shape", input, start=axis, end=axis + 1)
    return Value(g.call("Squeeze", whole, g.integers([0])), "int64", ())


def flat(sizes: Sequence[Sizes]) -> list[Size]:
    return [item for size in sizes for item in ([size] if isinstance(size, int | Value) else size)]

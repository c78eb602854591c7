"""A quantized graph as ``.pt2``: plain aten operations, which load with torch alone.

``torch.export`` keeps the packed codes as buffers and the unpacking as nodes, so that the tensors
take the bytes they have in the artifact. Kernels with weights of their own layout cannot be saved
in this format.
"""

import copy
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, fx
from torch.export import Dim, ExportedProgram

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.interop import compact_unpacking
from qcompile.interop.example_inputs import example_inputs, free_dims
from qcompile.interop.result_leaves import leaves
from qcompile.quant.fake_quantize import dequantize_weight
from qcompile.quant.level_weight import dequantize_levels

BATCHES = (3, 8)
"""Exported at the first; compared at both."""
SEED = 0
FEW_NODES: Mapping[object, Callable[..., Tensor]] = MappingProxyType(
    {
        dequantize_weight: compact_unpacking.dequantize_weight,
        dequantize_levels: compact_unpacking.dequantize_levels,
    }
)
NOT_STORED = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
"""What ``torch.export`` notes of its caller: long, and different on every machine."""


def pt2_bytes(module: fx.GraphModule) -> bytes | list[Diagnostic]:
    """``module`` is a simulation; it stays as it is.

    QR552 when the inputs are not known well enough or torch cannot export, QR553 when the exported
    program computes other numbers.
    """
    generator = torch.Generator().manual_seed(SEED)
    inputs = example_inputs(module, BATCHES[0], generator)
    if isinstance(inputs, list):
        return inputs
    try:
        program = _exported(compact(module), inputs, free_dims(module))
    except Exception as error:  # torch.export documents no common class
        return [not_exportable(str(error).strip().splitlines()[0])]
    found = [*_differences(module, program, generator)]
    if found:
        return found
    file = io.BytesIO()
    torch.export.save(_without_traces(program), file)
    return file.getvalue()


def compact(module: fx.GraphModule) -> fx.GraphModule:
    """A copy whose weights are unpacked in few nodes."""
    graph = copy.deepcopy(module.graph)
    for node in graph.nodes:
        node.target = FEW_NODES.get(node.target, node.target)
    return fx.GraphModule(module, graph).eval()


def _exported(
    module: fx.GraphModule, inputs: tuple[Tensor, ...], free: Sequence[dict[int, str]]
) -> ExportedProgram:
    """Export so that a free size that torch would fix is an error and not a surprise."""
    dynamic = tuple({axis: Dim.DYNAMIC for axis in axes} for axes in free)
    with torch.no_grad():
        return torch.export.export(module, inputs, dynamic_shapes=dynamic)


def _differences(
    module: fx.GraphModule, program: ExportedProgram, generator: torch.Generator
) -> Iterator[Diagnostic]:
    """Compare bit for bit at two batch sizes; the inputs must come out as they went in."""
    run = cast("Callable[..., object]", program.module())
    for batch in BATCHES:
        inputs = example_inputs(module, batch, generator)
        assert isinstance(inputs, tuple), "they were made before"
        before = [value.clone() for value in inputs]
        with torch.no_grad():
            expected, found = module(*inputs), run(*inputs)
        if not all(torch.equal(*pair) for pair in zip(before, inputs, strict=True)):
            yield export_differs("the exported program writes to its inputs")
        pairs = zip(_tensors(expected), _tensors(found), strict=True)
        if not all(torch.equal(*pair) for pair in pairs):
            yield export_differs(f"the outputs for a batch of {batch} are not those of `simulate`")


def _tensors(result: object) -> list[Tensor]:
    return [item for _, item in leaves(result) if isinstance(item, Tensor)]


def _without_traces(program: ExportedProgram) -> ExportedProgram:
    for node in program.graph.nodes:
        for key in NOT_STORED:
            node.meta.pop(key, None)
    return program


def not_exportable(why: str) -> Diagnostic:
    """QR552."""
    return Diagnostic(
        Code.EXPORT_INPUTS,
        f"torch.export cannot take this graph: {why}",
        help="trace the model with the sizes it will be used with, or export to `onnx`",
    )


def export_differs(what: str) -> Diagnostic:
    """QR553."""
    return Diagnostic(
        Code.EXPORT_DIFFERS,
        what,
        help="nothing was written; report it with the recipe and the torch version",
    )

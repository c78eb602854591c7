"""A float graph and the tensors of its plan as the quantized graph that computes with them.

Every planned weight becomes codes, scale and zero point behind one ``dequantize_weight``, every
planned activation a ``fake_quantize`` in front of its reader; these are the functions that the
calibration sweep ran. Lowering and exports read this graph, which is the reference; ``simulate`` is
made of it (``emit.lower.exact``). The float weight is gone.
"""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from operator import attrgetter
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Argument, map_arg
from torch.nn import functional

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.emit.functional_form import FunctionalForm, functional_form
from qcompile.emit.planned_tensors import check_tensors, not_met, refitted, weight_plans
from qcompile.emit.tensor_table import own_tensors, tensor_table
from qcompile.passes.sweep_operands import Operand, operands
from qcompile.passes.sweep_site import weight_names
from qcompile.policy.core import PlanCore, SitePlan, TensorPlan
from qcompile.policy.number_format import BlockFormat, IntFormat, has_signs, terms_of
from qcompile.policy.scheme import PerToken
from qcompile.policy.size import Part, channel_axis, part_name
from qcompile.quant.activation_quantizer import (
    from_tensors,
    has_run_time_range,
    is_e4m3_at_run_time,
    run_time_range,
    static_axis,
)
from qcompile.quant.fake_quantize import (
    dequantize_weight,
    fake_quantize,
    fake_quantize_dynamic,
    fake_quantize_e4m3,
)
from qcompile.quant.level_activation import (
    fake_quantize_blocks,
    fake_quantize_levels,
    fake_quantize_levels_dynamic,
)
from qcompile.quant.level_weight import dequantize_levels, levels_from_tensors, stored_term


def materialize(
    module: fx.GraphModule,
    core: PlanCore,
    tensors: Mapping[str, Tensor],
) -> fx.GraphModule:
    """Build the quantized graph, in eval mode; ``tensors`` are by artifact name.

    ``module`` is left as it is; what stays float is shared with it. Raises ``CompileError``:
    QR910 where tensors, graph and plan do not fit, QR530 for a weight of a
    module without a functional form.
    """
    problems = check_tensors(core, tensors)
    if problems:
        raise CompileError(problems)
    rewrite = _Rewrite(module, tensors, frozenset(refitted(core)))
    rewrite.all_sites(core)
    if rewrite.problems:
        raise CompileError(rewrite.problems)
    rewrite.graph.lint()
    made = fx.GraphModule(cast("dict[str, Any]", rewrite.attributes), rewrite.graph)
    return made.eval()


@dataclass(slots=True)
class _Rewrite:
    module: fx.GraphModule
    tensors: Mapping[str, Tensor]
    refitted: frozenset[str]
    """Biases and norms that were set anew: the module's own are those of the float model."""
    graph: fx.Graph = field(init=False)
    attributes: dict[str, object] = field(init=False)
    """What ``get_attr`` and ``call_module`` nodes refer to, by path."""
    problems: list[Diagnostic] = field(default_factory=list[Diagnostic])

    def __post_init__(self) -> None:
        self.graph = copy.deepcopy(self.module.graph)
        self.attributes = {
            str(node.target): attrgetter(str(node.target))(self.module)
            for node in self.graph.nodes
            if node.op in {"call_module", "get_attr"}
        }
        for path in {path.rpartition(".")[0] for path in self.refitted} & self.attributes.keys():
            self.attributes[path] = self._with_refits(path)

    def _with_refits(self, path: str) -> nn.Module:
        """A copy of a leaf with the parameters that were set anew; it shares the others."""
        own = cast("nn.Module", self.attributes[path])
        leaf = copy.deepcopy(own, {id(parameter): parameter for parameter in own.parameters()})
        for name in dict(leaf.named_parameters(recurse=False)):
            if f"{path}.{name}" in self.refitted:
                value = nn.Parameter(self.tensors[f"{path}.{name}"], requires_grad=False)
                leaf.register_parameter(name, value)
        return leaf

    def all_sites(self, core: PlanCore) -> None:
        """Activations first: their plans speak of the graph's own arguments."""
        nodes = {node.name: node for node in self.graph.nodes}
        for site in core.sites:
            if site.node in nodes:
                self._activations(nodes[site.node], site)
            elif site.tensors:
                self.problems.append(not_met(f"the graph has no node `{site.node}`", site.key))
        tied = {item.record.name: item.record.stored_as for item in tensor_table(self.module)}
        plans = {weight_names(plan)[1]: plan for plan in weight_plans(core)}
        for storage, plan in plans.items():
            names = {name for name, stored_as in tied.items() if stored_as == storage}
            self._weight(storage, plan, names)

    # ---- activations ----------------------------------------------------------------------------

    def _activations(self, node: fx.Node, site: SitePlan) -> None:
        replaced: dict[int, fx.Node] = {}
        for operand in operands(node, site):
            source = next(used for used in node.all_input_nodes if used.name == operand.node)
            with self.graph.inserting_before(node):
                quantized = self._quantized(source, site.key, operand)
            replaced |= dict.fromkeys(operand.positions, quantized)
        place = count()

        def take(used: fx.Node) -> Argument:
            return replaced.get(next(place), used)

        node.args, node.kwargs = map_arg((node.args, node.kwargs), take)

    def _quantized(self, source: fx.Node, key: str, operand: Operand) -> fx.Node:
        spec = operand.plan.spec
        per_token = isinstance(spec.granularity, PerToken)
        if is_e4m3_at_run_time(spec):
            return self.graph.call_function(fake_quantize_e4m3, (source, per_token))
        if not isinstance(spec.format, IntFormat):
            return self._on_levels(source, f"{key}:{operand.slot}", operand.plan)
        number = spec.integer
        if has_run_time_range(spec):
            given = (source, *run_time_range(spec))
            return self.graph.call_function(fake_quantize_dynamic, given)
        prefix = f"{key}:{operand.slot}"
        scale = self._buffer(f"{prefix}.scale")
        zero_point = None if spec.symmetric else self._buffer(f"{prefix}.zero_point")
        grid = (scale, zero_point, number.qmin, number.qmax, static_axis(spec))
        return self.graph.call_function(fake_quantize, (source, *grid))

    def _on_levels(self, source: fx.Node, prefix: str, plan: TensorPlan) -> fx.Node:
        """Values and edges, which are not on disk, become buffers."""
        spec = plan.spec
        table = from_tensors(self.tensors, prefix, spec).table(torch.device("cpu"))
        values, edges = (
            self._attribute(f"{prefix}.{name}", tensor)
            for name, tensor in zip(("values", "edges"), table, strict=True)
        )
        if isinstance(spec.format, BlockFormat):
            if plan.block_axis is None:
                self.problems.append(not_met(f"`{prefix}` has no axis for its blocks", prefix))
            given = (source, values, edges, spec.format.name, plan.block_axis)
            return self.graph.call_function(fake_quantize_blocks, given)
        if has_run_time_range(spec):
            ranges = (has_signs(spec.format), isinstance(spec.granularity, PerToken))
            given = (source, values, edges, *ranges)
            return self.graph.call_function(fake_quantize_levels_dynamic, given)
        scale = self._buffer(f"{prefix}.scale")
        given = (source, scale, values, edges, static_axis(spec))
        return self.graph.call_function(fake_quantize_levels, given)

    # ---- weights --------------------------------------------------------------------------------

    def _weight(self, storage: str, plan: TensorPlan, names: set[str]) -> None:
        readers = [node for node in self.graph.nodes if self._weight_read_by(node) in names]
        if not readers:
            self.problems.append(not_met(f"the graph does not read `{storage}`", storage))
            return
        with self.graph.inserting_before(readers[0]):
            weight = self._dequantized(storage, plan, self._dtype(readers[0]))
        for node in readers:
            if node.op == "get_attr":
                node.replace_all_uses_with(weight)
                self.graph.erase_node(node)
            else:
                self._as_function(node, weight)

    def _weight_read_by(self, node: fx.Node) -> str | None:
        path = str(node.target)
        match node.op:
            case "get_attr":
                return path
            case "call_module":
                return f"{path}.weight"
            case _:
                return None

    def _dtype(self, reader: fx.Node) -> object:
        found = self.attributes[str(reader.target)]
        return cast("Tensor", found.weight if isinstance(found, nn.Module) else found).dtype

    def _dequantized(self, storage: str, plan: TensorPlan, dtype: object) -> fx.Node:
        spec, shape = plan.spec, plan.shape
        axis = channel_axis(spec.granularity, plan.output_axis, len(shape))
        if not isinstance(spec.format, IntFormat):
            terms = tuple(self._terms(storage, plan))
            arguments = cast("tuple[Argument, ...]", (terms, shape, axis, dtype))
            return self.graph.call_function(dequantize_levels, arguments)
        codes = self._buffer(f"{storage}:codes")
        scale = self._buffer(f"{storage}:scale")
        zero_point = None if spec.symmetric else self._buffer(f"{storage}:zero_point")
        grid = (spec.bits, spec.integer.qmin, shape, axis, dtype)
        arguments = cast("tuple[Argument, ...]", (codes, scale, zero_point, *grid))
        return self.graph.call_function(dequantize_weight, arguments)

    def _terms(self, storage: str, plan: TensorPlan) -> Iterator[tuple[object, ...]]:
        """What ``dequantize_levels`` takes; levels that are not on disk become buffers too."""
        stored = levels_from_tensors(self.tensors, storage, plan.spec, plan.shape, plan.output_axis)
        for place, number in enumerate(terms_of(plan.spec.format)):
            parts = stored.terms[place]
            names: dict[Part, str] = {part: part_name(storage, place, part) for part in parts}
            codes, scale = self._buffer(names["codes"]), self._buffer(names["scale"])
            whole = self._buffer(names["tensor_scale"]) if "tensor_scale" in names else None
            *_, table, bits = stored_term(number, parts)
            levels = self._attribute(part_name(storage, place, "levels"), table)
            yield codes, scale, whole, levels, bits

    def _as_function(self, node: fx.Node, weight: fx.Node) -> None:
        """Turn the call of a leaf into the call of its function; the node keeps its name."""
        path = str(node.target)
        leaf = cast("nn.Module", self.attributes[path])
        form = functional_form(leaf)
        given = (*node.args, *node.kwargs.values())
        if form is None or len(given) != 1:
            self.problems.append(_no_functional_form(path, leaf))
            return
        with self.graph.inserting_before(node):
            x = self._padded(form, given[0])
            bias = self._bias(path, leaf)
        tail = cast("tuple[Argument, ...]", form.rest)
        node.op, node.target = "call_function", form.function
        node.args = (x, weight, bias, *tail) if form.takes_bias else (x, weight, *tail)
        node.kwargs = {}

    def _padded(self, form: FunctionalForm, x: Argument) -> Argument:
        if form.padding is None:
            return x
        pad = cast("Callable[..., object]", functional.pad)
        return self.graph.call_function(pad, (x, form.padding.amounts, form.padding.mode))

    def _bias(self, path: str, leaf: nn.Module) -> fx.Node | None:
        bias = own_tensors(leaf).get("bias")
        if bias is None:
            return None
        self.attributes[f"{path}.bias"] = bias
        return self.graph.get_attr(f"{path}.bias")

    def _buffer(self, name: str) -> fx.Node:
        """Read an artifact tensor."""
        return self._attribute(name, self.tensors[name])

    def _attribute(self, name: str, tensor: Tensor) -> fx.Node:
        """Read ``tensor``, a buffer of the root under a name that is an identifier."""
        base = re.sub(r"\W", "_", name, flags=re.ASCII)
        base = f"_{base}" if base[0].isdigit() else base
        field_name = base
        for number in count(1):
            if field_name not in self.attributes and not hasattr(self.module, field_name):
                break
            field_name = f"{base}_{number}"
        self.attributes[field_name] = tensor
        return self.graph.get_attr(field_name)


def _no_functional_form(path: str, leaf: nn.Module) -> Diagnostic:
    """QR530."""
    return Diagnostic(
        Code.UNSTORABLE_OPERATION,
        f"the weight of a `{type(leaf).__name__}` called in this way cannot be quantized",
        subject=path,
        help="take the module out with `skip`",
    )

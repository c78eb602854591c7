"""The tensors that a plan adds to an artifact, by name, dtype and shape."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.emit.allowed import dtype_name
from qcompile.passes.sweep_operands import slot_names
from qcompile.passes.sweep_site import weight_names
from qcompile.policy.core import PlanCore, SitePlan, TensorPlan
from qcompile.policy.scheme import PerChannel
from qcompile.policy.size import activation_parameters, weight_layout
from qcompile.quant.activation_quantizer import has_run_time_range


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    name: str
    dtype: str
    shape: tuple[int, ...]


def planned_tensors(core: PlanCore) -> dict[str, PlannedTensor]:
    """Codes, scales, zero points and ranges; those of a tied weight once, under its storage."""
    return {
        tensor.name: tensor
        for site in core.sites
        for _, group in tensors_of(site)
        for tensor in group
    }


def tensors_of(site: SitePlan) -> tuple[tuple[TensorPlan, tuple[PlannedTensor, ...]], ...]:
    """Give each plan of a site with the tensors that it puts on the disk."""
    weights = [(plan, tuple(_of_weight(plan))) for plan in site.tensors if plan.slot == "weight"]
    activations = [
        (plan, tuple(_of_activation(f"{site.key}:{slot}", plan))) for slot, plan in slot_names(site)
    ]
    return (*weights, *activations)


def refitted(core: PlanCore) -> tuple[str, ...]:
    """Parameters that stay float and were set anew with the codes, or learned with a unit."""
    biases = (path for site in core.sites for path in site.refits)
    norms = (path for unit in core.units for path in unit.refits)
    return (*biases, *norms)


def quantized_storages(core: PlanCore) -> frozenset[str]:
    """Parameters that exist as codes only."""
    return frozenset(weight_names(plan)[1] for plan in weight_plans(core))


def weight_plans(core: PlanCore) -> tuple[TensorPlan, ...]:
    return tuple(plan for site in core.sites for plan in site.tensors if plan.slot == "weight")


def check_tensors(core: PlanCore, tensors: Mapping[str, Tensor]) -> list[Diagnostic]:
    """Say where ``tensors`` has not what the plan promises; other tensors are not looked at."""
    problems: list[Diagnostic] = []
    for planned in planned_tensors(core).values():
        found = tensors.get(planned.name)
        if found is None:
            problems.append(not_met(f"`{planned.name}` is missing", planned.name))
        elif (dtype_name(found.dtype), tuple(found.shape)) != (planned.dtype, planned.shape):
            what = f"`{planned.name}` is {dtype_name(found.dtype)}{list(found.shape)}"
            wanted = f"planned {planned.dtype}{list(planned.shape)}"
            problems.append(not_met(f"{what}, {wanted}", planned.name))
    missing = [path for path in refitted(core) if path not in tensors]
    problems.extend(not_met(f"`{path}` was not refitted", path) for path in missing)
    return problems


def not_met(what: str, subject: str) -> Diagnostic:
    """QR910."""
    return Diagnostic(
        Code.PLAN_NOT_MET,
        what,
        subject=subject,
        help="this artifact is not what its plan says; run the plan again",
    )


def _of_weight(plan: TensorPlan) -> Iterable[PlannedTensor]:
    storage = weight_names(plan)[1]
    for part in weight_layout(plan.spec, plan.shape, plan.output_axis):
        yield PlannedTensor(part.name(storage), part.dtype, part.shape)


def _of_activation(prefix: str, plan: TensorPlan) -> Iterable[PlannedTensor]:
    if has_run_time_range(plan.spec):
        return
    per_channel = isinstance(plan.spec.granularity, PerChannel)
    shape = (plan.channels or 1,) if per_channel else (1,)
    yield PlannedTensor(f"{prefix}.scale", "float32", shape)
    if not plan.spec.symmetric:
        yield PlannedTensor(f"{prefix}.zero_point", "uint8", shape)
    for part, dtype, length in activation_parameters(plan.spec):
        yield PlannedTensor(f"{prefix}.{part}", dtype, (length,))

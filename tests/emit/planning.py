"""Plans and their tensors without a recipe: what the tests of artifacts and of exports build on."""

import torch

from qcompile.capture.operands import activations, site_kind, weights_of
from qcompile.capture.storages import storages_of
from qcompile.capture.tensors import owned_tensors
from qcompile.methods.tuning import Tuning
from qcompile.policy.core import (
    Beside,
    FileHash,
    Plan,
    PlanCore,
    SitePlan,
    TensorPlan,
)
from qcompile.policy.identity import core_sha256
from qcompile.policy.number_format import IntFormat
from qcompile.policy.rule_ref import RuleRef
from qcompile.policy.size import activation_bytes, weight_bytes
from qcompile.quant.activation_quantizer import ActivationQuantizer
from qcompile.quant.level_weight import quantize_levels
from qcompile.quant.quantized_weight import quantize_weight
from qcompile.quant.range_search import weight_range

RULE = RuleRef(file="a.qrecipe", line=1, column=1, text="use w4a8 for all")


def weight_plan(module, node, spec, storages):
    found = weights_of(node, module)
    if found.weight is None:
        return None
    weight = module.get_parameter(found.weight)
    return TensorPlan(
        slot="weight",
        spec=spec,
        parameter=found.weight,
        storage=storages[found.weight],
        shape=tuple(weight.shape),
        output_axis=found.output_axis,
        bytes_before=weight.nbytes,
        bytes_after=weight_bytes(spec, tuple(weight.shape), found.output_axis),
        decided_by=RULE,
    )


def activation_plans(node, module, spec):
    return tuple(
        TensorPlan(
            slot="act" if number == 0 else "act2",
            spec=spec,
            operand=used.name,
            bytes_before=0,
            bytes_after=activation_bytes(spec, None),
            decided_by=RULE,
        )
        for number, used in enumerate(activations(node, module))
    )


def site_of(module, node, weight_spec, act_spec):
    weight = weight_plan(module, node, weight_spec, storages_of(module)) if weight_spec else None
    acts = activation_plans(node, module, act_spec) if act_spec else ()
    return SitePlan(
        key=node.name,
        path=node.name,
        call=0,
        node=node.name,
        kind=site_kind(node, module).value,
        unit="all",
        scheme="s",
        decided_by=RULE,
        tensors=(*((weight,) if weight else ()), *acts),
    )


def total_bytes(module, sites):
    owned = {t.path: t.nbytes for t in owned_tensors(module) if t.path == t.storage}
    plans = [plan for site in sites for plan in site.tensors]
    weights = {plan.storage: plan.bytes_after for plan in plans if plan.slot == "weight"}
    return sum((owned | weights).values()) + sum(p.bytes_after for p in plans if p.slot != "weight")


def plan_of(module, sites):
    core = PlanCore(
        language=1,
        tool="qcompile test",
        model="a:b",
        weights=None,
        recipe=(FileHash(name="a.qrecipe", sha256="0"),),
        graph_sha256="0",
        weights_sha256="0",
        data=None,
        seed=1,
        transforms=(),
        units=(),
        sites=tuple(sites),
        tuning=Tuning(preset="rtn", solvers=("rtn",)),
        bytes_before=0,
        bytes_after=total_bytes(module, sites),
    )
    beside = Beside(recipe_texts={"a.qrecipe": "qrecipe 1\n", "../lib/b.qrecipe": "qrecipe 1\n"})
    return Plan(core_sha256=core_sha256(core), core=core, beside=beside)


def rounded(weight, spec, output_axis):
    if not isinstance(spec.format, IntFormat):
        return quantize_levels(weight, spec, output_axis)
    return quantize_weight(weight, spec, output_axis, weight_range(weight, spec, output_axis))


def tensors_of_plan(module, core):
    """Round every weight to nearest; give every static activation the range [-2, 4]."""
    tensors = {}
    for site in core.sites:
        further = 1
        for plan in site.tensors:
            if plan.slot == "weight":
                weight = module.get_parameter(plan.parameter).detach()
                tensors |= rounded(weight, plan.spec, plan.output_axis).tensors(plan.storage)
                continue
            further += plan.slot == "act2"
            name = "act" if plan.slot == "act" else f"act{further}"
            if not plan.spec.dynamic:
                scale, zero = torch.tensor([6 / 255]), torch.tensor([85], dtype=torch.uint8)
                quantizer = ActivationQuantizer(plan.spec, scale, zero)
                tensors |= quantizer.tensors(f"{site.key}:{name}")
    return tensors

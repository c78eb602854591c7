"""The reference graph made ready for a target: kernels where there are, the simulation where not.

Nothing is chosen by trying: the target's table and the form of each layer decide, and every layer
that stays in float is in the result with the reason.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, fx
from torch.fx.node import Argument, map_arg

from qcompile.compat.onednn_operations import onednn
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.emit.lower import tensor_cores
from qcompile.emit.lower.exact import make_exact
from qcompile.emit.lower.fp8_layer import Fp8Layer, fp8_layer_of
from qcompile.emit.lower.integer import IntegerLowering
from qcompile.emit.lower.layer import Layer, layer_of
from qcompile.emit.lower.limits import why_not
from qcompile.emit.lower.lowering import Lowering
from qcompile.emit.lower.machine import device_of, refused, unmet
from qcompile.emit.lower.rewriting import Rewriting
from qcompile.emit.lower.weight_only import weight_only
from qcompile.policy.core import PlanCore, SitePlan
from qcompile.policy.layer_forms import layer_form
from qcompile.quant.fake_quantize import dequantize_weight
from qcompile.quant.level_weight import dequantize_levels
from qcompile.targets.report import LoweredLayer, LoweringReport
from qcompile.targets.target import Answer, Kernel, Target

Served = dict[str, tuple[Kernel, Layer | Fp8Layer]]
SUM: Kernel = "onednn_sum"
NO_SUM = "no convolution that writes codes of 8 bits can write them over what it adds"


def lower(reference: fx.GraphModule, core: PlanCore, target: Target) -> Lowering | list[Diagnostic]:
    """Lower ``reference``, which stays as it is.

    QR541: the machine or this program cannot run the target; QR507: the target refuses layers.
    """
    answers = {site.node: target.answer(layer_form(site)) for site in core.sites if site.tensors}
    problems = unmet(target) or refused(target, core, answers)
    if problems:
        return problems
    rewriting = Rewriting(reference)
    served, reasons = _served(rewriting, answers)
    device = device_of(target)
    fused, forms = _replace(rewriting, served, target, device)
    make_exact(rewriting)
    _fold_weights(rewriting)
    layers = tuple(
        _lowered(site, answers[site.node], served, reasons, fused, forms)
        for site in core.sites
        if site.tensors
    )
    module = rewriting.finished().to(device)
    return Lowering(module, LoweringReport(target.name, layers), device)


def _served(rewriting: Rewriting, answers: dict[str, Answer]) -> tuple[Served, dict[str, str]]:
    """Give the layers that get a kernel, and why others that the table promised one do not."""
    served: Served = {}
    reasons: dict[str, str] = {}
    for node in rewriting.graph.nodes:
        answer = answers.get(node.name)
        if answer is None or answer.kernel in (None, "reference", SUM):
            continue
        is_fp8 = answer.kernel == "scaled_mm"
        found = (fp8_layer_of if is_fp8 else layer_of)(rewriting.module, node)
        reason = why_not(answer.kernel, found) if isinstance(found, Layer) else None
        if isinstance(found, str) or reason is not None:
            reasons[node.name] = reason or str(found)
        else:
            served[node.name] = (answer.kernel, found)
    return served, reasons


def _replace(
    rewriting: Rewriting, served: Served, target: Target, device: torch.device
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Give what each layer took over, by node, and nothing for each sum that one took over.

    And the form of kernels that have several.
    """
    static: list[Layer] = []
    dynamic: list[Layer] = []
    taken: dict[str, tuple[str, ...]] = {}
    forms: dict[str, str] = {}
    for name, (kernel, layer) in served.items():
        if isinstance(layer, Fp8Layer):
            tensor_cores.fp8(rewriting, layer)
        elif kernel in ("onednn_qconv", "onednn_qlinear"):
            static.append(layer)
        elif kernel == "onednn_qlinear_dynamic":
            dynamic.append(layer)
        elif kernel == "int_mm":
            taken[name] = tensor_cores.int8(rewriting, layer)
        else:
            forms[name] = weight_only(rewriting, kernel, layer, target.few_rows, device)
    names = onednn()
    if names is None:
        return taken, forms
    integer = IntegerLowering(rewriting, names)
    for layer in dynamic:
        integer.dynamic(layer)
    return taken | integer.static(static), forms


def _fold_weights(rewriting: Rewriting) -> None:
    """Take weights that stay in float off their codes once, instead of in every call."""

    def stored(node: fx.Node) -> Argument:
        return cast("Argument", rewriting.attributes[str(node.target)])

    for node in list(rewriting.graph.nodes):
        if node.target not in (dequantize_weight, dequantize_levels):
            continue
        weight = cast("Callable[..., Tensor]", node.target)(*map_arg(node.args, stored))
        with rewriting.graph.inserting_before(node):
            made = rewriting.buffer(f"{node.name}_float", weight)
        rewriting.bypass(node, made)


def _lowered(
    site: SitePlan,
    answer: Answer,
    served: Served,
    reasons: dict[str, str],
    fused: dict[str, tuple[str, ...]],
    forms: dict[str, str],
) -> LoweredLayer:
    if answer.kernel == SUM and site.node not in fused:
        return LoweredLayer(site.key, because=NO_SUM)
    if site.node in served or answer.kernel in ("reference", SUM):
        form = forms.get(site.node, "")
        return LoweredLayer(site.key, answer.kernel, fused.get(site.node, ()), form=form)
    return LoweredLayer(site.key, because=reasons.get(site.node, answer.because))

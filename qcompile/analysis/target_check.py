"""Whether the machine that a recipe names can carry out its plan, layer by layer."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from qcompile.diagnostics.codes import Code, Severity
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.core import SitePlan
from qcompile.policy.layer_forms import layer_form
from qcompile.policy.recipe import TargetName
from qcompile.targets.target import Answer, Target

SHOWN = 5


def check_target(name: TargetName, target: Target, planned: Sequence[SitePlan]) -> list[Diagnostic]:
    """QR507 once, for all layers of the plan that have no kernel on the recipe's target.

    An error if the target refuses some of them; a warning if they would run in float.
    """
    groups: dict[tuple[str, Answer], list[SitePlan]] = defaultdict(list)
    for site in planned:
        form = layer_form(site)
        answer = target.answer(form)
        if site.tensors and answer.outcome != "kernel":
            groups[form.op, answer].append(site)
    refused = {key: sites for key, sites in groups.items() if key[1].outcome == "refuse"}
    if refused:
        return [no_kernel(name, target, refused, "refused")]
    return [no_kernel(name, target, groups, "left in float")] if groups else []


def no_kernel(
    name: TargetName,
    target: Target,
    groups: Mapping[tuple[str, Answer], Sequence[SitePlan]],
    fate: Literal["refused", "left in float"],
) -> Diagnostic:
    """QR507."""
    count = sum(len(sites) for sites in groups.values())
    notes = [f"{_listed(sites)}: {answer.because}" for (_, answer), sites in groups.items()]
    works = {op: target.kernels_for(op) for op, _ in groups}
    notes += [f"a kernel for {op} takes {form}" for op, forms in works.items() for form in forms]
    others = 'leave them in float with `skip`, or write `target "simulate"`'
    return Diagnostic(
        Code.NO_KERNEL,
        f"{count} {'layer' if count == 1 else 'layers'} {fate} on `{target.name}`",
        Label(name.span),
        notes=tuple(notes),
        help="use a scheme that a kernel takes" if any(works.values()) else others,
        severity_override=None if fate == "refused" else Severity.WARNING,
    )


def _listed(sites: Sequence[SitePlan]) -> str:
    more = f" and {len(sites) - SHOWN} more" if len(sites) > SHOWN else ""
    return ", ".join(site.key for site in sites[:SHOWN]) + more

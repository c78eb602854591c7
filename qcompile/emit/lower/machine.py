"""What a target needs, and whether this machine and this program have it."""

from collections.abc import Callable, Mapping

import torch

from qcompile.compat.cpu_features import has_avx2, multiplies_bytes
from qcompile.compat.onednn_operations import onednn
from qcompile.compat.tensor_cores import found_devices, has_fp8, has_int4, has_int8
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.policy.core import PlanCore
from qcompile.targets.catalogue import find_target
from qcompile.targets.names import BUILTIN
from qcompile.targets.target import Answer, Need, Target

PROBES: Mapping[Need, tuple[Callable[[], bool], str]] = {
    "onednn": (lambda: onednn() is not None, "a torch with the int8 operations of oneDNN"),
    "vnni": (multiplies_bytes, "a processor with VNNI instructions"),
    "avx2": (has_avx2, "a processor with AVX2 instructions"),
    "cuda": (torch.cuda.is_available, "a CUDA device"),
    "cuda_int8": (has_int8, "a CUDA device with 8-bit integer products (capability 7.5 or later)"),
    "cuda_fp8": (has_fp8, "a CUDA device with 8-bit float products (capability 8.9 or later)"),
    "cuda_int4": (has_int4, "a CUDA device with bfloat16 products (capability 8.0 or later)"),
}
ON_CUDA: frozenset[Need] = frozenset({"cuda", "cuda_int8", "cuda_fp8", "cuda_int4"})


def device_of(target: Target) -> torch.device:
    """Where its kernels run."""
    return torch.device("cuda" if ON_CUDA & set(target.needs) else "cpu")


def unmet(target: Target) -> list[Diagnostic]:
    """QR541 for what is missing; empty where the target can run."""
    missing = _missing(target)
    return [not_here(target, " and ".join(missing))] if missing else []


def usable_here() -> tuple[str, ...]:
    """The targets that ship with the program and run on this machine."""
    found = (find_target(name) for name in BUILTIN)
    return tuple(one.name for one in found if isinstance(one, Target) and not _missing(one))


def _missing(target: Target) -> list[str]:
    missing = [
        words for need, (probe, words) in PROBES.items() if need in target.needs and not probe()
    ]
    if not missing and any(row.kernel == "elsewhere" for row in target.support):
        return ["kernels that this version of qcompile does not have"]
    return missing


def refused(target: Target, core: PlanCore, answers: Mapping[str, Answer]) -> list[Diagnostic]:
    """QR507 for each layer that the target will not run in float either."""
    keys = {site.node: site.key for site in core.sites}
    return [
        refused_layer(target, keys[node], answer.because)
        for node, answer in answers.items()
        if answer.outcome == "refuse"
    ]


def not_here(target: Target, missing: str) -> Diagnostic:
    """QR541."""
    return Diagnostic(
        Code.TARGET_NOT_HERE,
        f"the target `{target.name}` needs {missing}",
        subject=target.name,
        notes=(found_devices(),) if ON_CUDA & set(target.needs) else (),
        help=f"on this machine these run: {', '.join(usable_here())}",
    )


def refused_layer(target: Target, key: str, why: str) -> Diagnostic:
    """QR507."""
    return Diagnostic(
        Code.NO_KERNEL,
        f"the target `{target.name}` refuses a layer: {why}",
        subject=key,
        help="use a scheme that a kernel of the target takes, or load for `simulate`",
    )

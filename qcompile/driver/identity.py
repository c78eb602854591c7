"""Within what a run is promised to give the same bytes."""

import platform

import torch

from qcompile.compat.cpu_features import attends_bf16
from qcompile.passes.reconstruct import fast_bf16
from qcompile.policy.core import Plan


def run_identity(plan: Plan, device: torch.device) -> dict[str, str]:
    """The plan core, and everything about the machine that decides bits."""
    return {
        "plan": plan.core_sha256,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "fast_bf16": str(fast_bf16(device)).lower(),
        "attends_bf16": str(attends_bf16()).lower(),
        "threads": str(torch.get_num_threads()),
        "device": _device_name(device),
        "world": "1",
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

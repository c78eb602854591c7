"""What a factor of the Gram matrix says of single columns."""

import pytest
import torch

from qcompile.quant.elimination import eliminate


@pytest.mark.parametrize("order", ["natural", "activation"])
def test_a_column_costs_what_later_columns_cannot_make_up_for(order):
    """Brute force: an error of 1 in one column, and the best change of those that come later."""
    half = torch.randn(2, 9, 9, generator=torch.Generator().manual_seed(0)).double()
    gram = half @ half.transpose(1, 2) * torch.arange(1, 3)[:, None, None]
    found = eliminate(gram, order, 1e-9)
    for group, columns in enumerate(found.columns.tolist()):
        for place, column in enumerate(columns):
            later = columns[place + 1 :]
            own, cross = gram[group, column, column], gram[group, later][:, column]
            told = cross @ torch.linalg.solve(gram[group][later][:, later], cross) if later else 0
            assert float(found.costs[group, column]) == pytest.approx(float(own - told), rel=1e-5)

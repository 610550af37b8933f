"""Shares of a batch: means over unequal ones become the mean over all."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from trajcast_ase.training.distributed import Ranks, share_gradients


@dataclass
class Others:
    """Ranks of a process whose fellows have sent their numbers already."""

    sent: list[torch.Tensor] = field(default_factory=list)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum with what was sent before, and keep `values`."""
        whole = values + sum(self.sent)
        self.sent.append(values)
        return whole


def mean_loss(layer: nn.Linear, rows: torch.Tensor) -> torch.Tensor:
    return layer(rows).square().mean()


@pytest.mark.parametrize("sizes", [(3, 2), (4, 0, 1)])
def test_gradients_of_unequal_shares_are_those_of_the_batch(sizes):
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    layer = nn.Linear(2, 1, dtype=torch.float64)
    unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
    parameters = (*layer.parameters(), unused)
    mean_loss(layer, rows).backward()
    wanted = [one.grad.clone() for one in layer.parameters()]
    ranks, loss = Others(), 0.0
    for share in rows.split(sizes):
        layer.zero_grad(set_to_none=True)
        own = 0.0
        if len(share):
            value = mean_loss(layer, share)
            value.backward()
            own = value.item()
        loss = share_gradients(parameters, own, float(len(share)), ranks)
    for one, expected in zip(layer.parameters(), wanted, strict=True):
        torch.testing.assert_close(one.grad, expected, rtol=1e-12, atol=1e-14)
    assert unused.grad is None
    assert loss == pytest.approx(mean_loss(layer, rows).item(), rel=1e-12)


@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_shares_are_disjoint_and_complete(count):
    things = list(range(count))
    shares = [things[Ranks(rank, 4).share(count)] for rank in range(4)]
    assert sorted(one for share in shares for one in share) == things
    assert len(shares[0]) == max(map(len, shares))

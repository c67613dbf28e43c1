"""Networks of nine inputs and three classes, for comparisons."""

import torch
from torch import Tensor, nn


def nine_to_three(seed: int) -> nn.Module:
    """Trained a little to tell which of the first three inputs is the largest."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(9, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.rand(300, 9)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
        optimizer.step()
    return net


class Bent(nn.Module):
    """Not piecewise affine."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.sin())

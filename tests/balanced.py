"""A random net that gives all its classes, with boundaries near the images."""

import torch
from oracles import SmallNet, images
from torch import nn


def balanced_net(seed: int = 0) -> nn.Module:
    """`SmallNet` with its logits centred and spread on random images; in eval mode."""
    net = SmallNet(seed).eval()
    with torch.no_grad():
        logits = net(images(500, seed=99))
        spread = logits.std(0)
        net.head.weight.mul_(3 / spread[:, None])
        net.head.bias.copy_((net.head.bias - logits.mean(0)) * 3 / spread)
    return net

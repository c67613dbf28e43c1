"""Standard training: the cross-entropy of the images as they are."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def standard_loss(module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy, L = −mean_i log softmax(f(x_i))[y_i].

    Args:
        module: the network with its normalisation in front: it takes images in [0, 1].
        x: images in [0, 1] `[batch, channel, row, col]`.
        y: labels `[batch]`.
        generator: source of random numbers, on the CPU; not used here.

    Returns:
        The loss, a scalar to differentiate, and the logits `[batch, class]` for the reported accuracy.
    """
    logits = module(x)
    return F.cross_entropy(logits, y), logits

"""Standard training: cross-entropy of unperturbed images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Standard:
    """Mean cross-entropy, L = −mean_i log softmax(f(x_i))[y_i]. No settings."""

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `Method`; nothing is random."""
        logits = module(x)
        return F.cross_entropy(logits, y), logits
